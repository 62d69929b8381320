//! Strict JSON: where an object belongs, only an object is taken.
//!
//! Serde fills a struct from an array too, by position. These functions go on
//! fields (`#[serde(deserialize_with = "json::object")]`) and on whole bodies.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Takes an object, and nothing else, for a struct.
pub(crate) fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct ObjectVisitor<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(ObjectVisitor(PhantomData))
}

/// The same for a field that may be absent; goes with `#[serde(default)]`.
pub(crate) fn optional_object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::<Object<T>>::deserialize(deserializer).map(|value| value.map(|Object(inner)| inner))
}

/// The same for a list.
pub(crate) fn objects<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let objects = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|Object(inner)| inner).collect())
}

/// Takes an object of any names, each once, for a field that may be absent; goes with `#[serde(default)]`.
pub(crate) fn optional_names<'de, D, T>(deserializer: D) -> Result<Option<BTreeMap<String, T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::<Names<T>>::deserialize(deserializer).map(|value| value.map(|Names(inner)| inner))
}

struct Names<T>(BTreeMap<String, T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Names<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamesVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for NamesVisitor<T> {
            type Value = BTreeMap<String, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut names = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if names.contains_key(&name) {
                        return Err(serde::de::Error::custom(format_args!("duplicate field `{name}`")));
                    }
                    names.insert(name, map.next_value()?);
                }
                Ok(names)
            }
        }

        deserializer.deserialize_map(NamesVisitor(PhantomData)).map(Self)
    }
}

struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        object(deserializer).map(Self)
    }
}

/// What is wrong with a text that should have been one object.
pub(crate) struct Invalid {
    /// JSON pointer to the member; empty for the whole text.
    pub pointer: String,
    pub message: String,
}

/// Reads one object from the whole text.
pub(crate) fn from_slice<T: DeserializeOwned>(text: &[u8]) -> Result<T, Invalid> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut deserializer, &mut track);
    let value = object(tracked).map_err(|error| Invalid { pointer: String::new(), message: error.to_string() });
    let value = value.map_err(|invalid| Invalid { pointer: pointer(&track.path()), ..invalid })?;
    deserializer.end().map_err(|error| Invalid { pointer: String::new(), message: error.to_string() })?;
    Ok(value)
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let segments = path.iter().filter_map(|segment| match segment {
        Segment::Map { key } => Some(format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
        Segment::Seq { index } => Some(format!("/{index}")),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    segments.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        value: i32,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(deserialize_with = "object")]
        inner: Inner,
        #[serde(default, deserialize_with = "optional_object")]
        other: Option<Inner>,
        #[serde(default, deserialize_with = "objects")]
        list: Vec<Inner>,
    }

    fn failure(text: &str) -> (String, String) {
        let invalid = from_slice::<Outer>(text.as_bytes()).err().unwrap();
        (invalid.pointer, invalid.message)
    }

    #[test]
    fn objects_are_taken() {
        let outer: Outer =
            from_slice(br#"{"inner":{"value":1},"other":{"value":2},"list":[{"value":3}]}"#).ok().unwrap();
        assert_eq!(
            outer,
            Outer { inner: Inner { value: 1 }, other: Some(Inner { value: 2 }), list: vec![Inner { value: 3 }] }
        );
    }

    #[test]
    fn an_array_is_no_object_at_any_depth() {
        assert_eq!(failure("[{\"value\":1}]").0, "");
        assert_eq!(failure(r#"{"inner":[1]}"#).0, "/inner");
        assert_eq!(failure(r#"{"inner":{"value":1},"other":[1]}"#).0, "/other");
        assert_eq!(failure(r#"{"inner":{"value":1},"list":[[1]]}"#).0, "/list/0");
    }

    #[test]
    fn an_unknown_or_repeated_field_is_named() {
        let (_, message) = failure(r#"{"inner":{"value":1,"colour":2}}"#);
        assert!(message.contains("`colour`"), "{message}");
        let (_, message) = failure(r#"{"inner":{"value":1,"value":2}}"#);
        assert!(message.contains("duplicate field `value`"), "{message}");
    }

    #[test]
    fn nothing_may_follow_the_object() {
        assert!(failure(r#"{"inner":{"value":1}} {}"#).1.contains("trailing"));
    }
}

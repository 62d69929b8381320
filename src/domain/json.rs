//! Strict JSON: a struct is read only from an object, and each member occurs at most once.
//!
//! Serde also reads a struct from an array, by position, and keeps the last of duplicate members of a map. [`Strict`]
//! wraps the deserializer of every value, at any depth, so that types need no attributes and none can be forgotten.
//!
//! Enums are read from strings. Types that make serde buffer (`flatten`, `untagged`, tagged enums) are not covered:
//! serde deserializes them from its own copy.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Error, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};
use serde_json::Value;
use serde_json::error::Category;

/// Error in a text that should be one JSON object.
pub(crate) struct Invalid {
    /// JSON pointer (RFC 6901) to the invalid member; empty for the whole text.
    pub pointer: String,
    pub message: String,
}

/// Deserializes a struct from a text that is one JSON object.
pub(crate) fn from_slice<T: DeserializeOwned>(text: &[u8]) -> Result<T, Invalid> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let path = Path::default();
    let value = T::deserialize(path.strict(&mut json)).and_then(|value| json.end().map(|()| value));
    value.map_err(|error| Invalid { pointer: path.pointer(), message: error.to_string() })
}

/// Parses a text that is one JSON value, of which every object has each of its members once. A byte order mark is taken.
///
/// # Errors
/// In words for whoever wrote the text.
pub(crate) fn parse(text: &[u8]) -> Result<Value, Invalid> {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let mut json = serde_json::Deserializer::from_slice(text);
    let path = Path::default();
    let value = Value::deserialize(path.strict(&mut json)).and_then(|value| json.end().map(|()| value));
    value.map_err(|error| Invalid { pointer: path.pointer(), message: in_words(&error) })
}

fn in_words(error: &serde_json::Error) -> String {
    match error.classify() {
        Category::Data => "is there more than once".to_owned(),
        Category::Eof => "is no JSON: it ends too early".to_owned(),
        Category::Syntax | Category::Io => {
            format!("is no JSON that is taken: see line {}, column {}", error.line(), error.column())
        }
    }
}

/// Path to the error, innermost member first: filled while the error is returned.
#[derive(Default)]
struct Path(RefCell<Vec<String>>);

impl Path {
    fn strict<T>(&self, inner: T) -> Strict<'_, T> {
        Strict { inner, path: self }
    }

    fn step<T, E>(&self, name: impl fmt::Display, read: Result<T, E>) -> Result<T, E> {
        read.inspect_err(|_| self.0.borrow_mut().push(name.to_string()))
    }

    fn pointer(&self) -> String {
        let escaped = |name: &String| format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        self.0.borrow().iter().rev().map(escaped).collect()
    }
}

/// A deserializer, visitor, seed or sequence of serde that wraps every nested value likewise.
struct Strict<'p, T> {
    inner: T,
    path: &'p Path,
}

/// JSON is self-describing, so `deserialize_any` serves every type but those implemented here.
impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(self.path.strict(visitor))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_option(self.path.strict(visitor))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_map(Object(self.path.strict(visitor)))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_enum(String::deserialize(self)?.into_deserializer())
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct identifier ignored_any
    }
}

macro_rules! hand_on {
    ($($visit:ident($value:ty),)*) => {
        $(fn $visit<E: Error>(self, value: $value) -> Result<V::Value, E> {
            self.inner.$visit(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Strict<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    hand_on! { visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str), }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(self.path.strict(deserializer))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.inner.visit_seq(Items { inner: items, read: 0, path: self.path })
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Members { inner: members, seen: BTreeSet::new(), name: None, path: self.path })
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Strict<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(self.path.strict(deserializer))
    }
}

/// Accepts only an object.
struct Object<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Object<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(members)
    }
}

struct Items<'p, A> {
    inner: A,
    read: usize,
    path: &'p Path,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Items<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let item = self.inner.next_element_seed(self.path.strict(seed));
        self.read += 1;
        self.path.step(self.read - 1, item)
    }
}

struct Members<'p, A> {
    inner: A,
    /// Names of the members before the current one.
    seen: BTreeSet<String>,
    name: Option<String>,
    path: &'p Path,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Members<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.seen.extend(self.name.take());
        let Some(name) = self.inner.next_key::<String>()? else { return Ok(None) };
        let key = if self.seen.contains(&name) {
            Err(A::Error::custom(format_args!("duplicate field `{name}`")))
        } else {
            seed.deserialize(name.as_str().into_deserializer())
        };
        let key = self.path.step(&name, key)?;
        self.name = Some(name);
        Ok(Some(key))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let value = self.inner.next_value_seed(self.path.strict(seed));
        self.path.step(self.name.as_deref().unwrap_or_default(), value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        value: i32,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Newtype(Inner);

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(transparent)]
    struct Transparent {
        inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        Plain,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Outer {
        inner: Option<Inner>,
        list: Vec<Inner>,
        lists: Option<Vec<Vec<Inner>>>,
        names: BTreeMap<String, Inner>,
        counts: Option<BTreeMap<String, i64>>,
        newtype: Option<Newtype>,
        transparent: Option<Transparent>,
        word: Option<Word>,
        pair: Option<(u8, f64)>,
        any: Value,
    }

    fn read(text: &str) -> Outer {
        from_slice(text.as_bytes()).unwrap_or_else(|invalid| panic!("{text}: {}", invalid.message))
    }

    /// Pointer and message, without the line and column in the message.
    fn failure(text: &str) -> (String, String) {
        let invalid = from_slice::<Outer>(text.as_bytes()).err().unwrap();
        let message = invalid.message.split(" at line ").next().unwrap().to_owned();
        (invalid.pointer, message)
    }

    /// Checks the pointer and the message with which each text is refused.
    fn refuses(cases: &[(&str, &str, &str)]) {
        for (text, pointer, message) in cases {
            assert_eq!(failure(text), ((*pointer).to_owned(), (*message).to_owned()), "{text}");
        }
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let text = r#"{"inner":{"value":1},"list":[{"value":2}],"lists":[[],[{"value":3}]],"names":{"a":{"value":4}},
            "counts":{"a":5,"b":-6},"newtype":{"value":7},"transparent":{"value":8},"word":"plain","pair":[9,1],
            "any":{"list":[1,-1,1.5,true,null,"\u00e9"]}}"#;
        let outer = Outer {
            inner: Some(Inner { value: 1 }),
            list: vec![Inner { value: 2 }],
            lists: Some(vec![vec![], vec![Inner { value: 3 }]]),
            names: BTreeMap::from([("a".to_owned(), Inner { value: 4 })]),
            counts: Some(BTreeMap::from([("a".to_owned(), 5), ("b".to_owned(), -6)])),
            newtype: Some(Newtype(Inner { value: 7 })),
            transparent: Some(Transparent { inner: Some(Inner { value: 8 }) }),
            word: Some(Word::Plain),
            pair: Some((9, 1.0)),
            any: serde_json::json!({ "list": [1, -1, 1.5, true, null, "é"] }),
        };
        assert_eq!(read(text), outer);
        assert_eq!(read(r#"{"inner":null,"lists":null,"counts":null,"word":null}"#), Outer::default());
        assert_eq!(read(" {} \n"), Outer::default());
    }

    #[test]
    fn only_an_object_is_an_object_at_any_depth() {
        let sequence = "invalid type: sequence, expected an object";
        refuses(&[
            ("[]", "", sequence),
            (r#"[{"value":1}]"#, "", sequence),
            (r#"{"inner":[1]}"#, "/inner", sequence),
            (r#"{"list":[{"value":1},[1]]}"#, "/list/1", sequence),
            (r#"{"lists":[[],[{"value":1},[1]]]}"#, "/lists/1/1", sequence),
            (r#"{"names":{"a":{"value":1},"b":[1]}}"#, "/names/b", sequence),
            (r#"{"names":[]}"#, "/names", sequence),
            (r#"{"counts":[["a",1]]}"#, "/counts", sequence),
            (r#"{"newtype":[1]}"#, "/newtype", sequence),
            (r#"{"newtype":[[1]]}"#, "/newtype", sequence),
            (r#"{"transparent":[1]}"#, "/transparent", sequence),
            ("null", "", "invalid type: null, expected an object"),
            (r#""text""#, "", "invalid type: string \"text\", expected an object"),
            (r#"{"inner":4}"#, "/inner", "invalid type: integer `4`, expected an object"),
            (r#"{"list":[null]}"#, "/list/0", "invalid type: null, expected an object"),
        ]);
    }

    #[test]
    fn a_member_is_there_once_at_any_depth() {
        refuses(&[
            (r#"{"list":[],"list":[]}"#, "/list", "duplicate field `list`"),
            (r#"{"inner":{"value":1,"value":1}}"#, "/inner/value", "duplicate field `value`"),
            (r#"{"list":[{"value":1,"v\u0061lue":2}]}"#, "/list/0/value", "duplicate field `value`"),
            (r#"{"counts":{"a":1,"b":2,"a":1}}"#, "/counts/a", "duplicate field `a`"),
            (r#"{"names":{"":{"value":1},"":{"value":1}}}"#, "/names/", "duplicate field ``"),
            (r#"{"names":{"a":{"value":1,"value":2}}}"#, "/names/a/value", "duplicate field `value`"),
            (r#"{"any":[{"a":{"b":1,"b":1}}]}"#, "/any/0/a/b", "duplicate field `b`"),
        ]);
        read(r#"{"counts":{"a":1,"A":2,"":3},"list":[{"value":1},{"value":1}]}"#);
    }

    #[test]
    fn what_serde_ignores_is_read_as_strictly() {
        #[derive(Deserialize)]
        struct Lenient {}
        assert!(from_slice::<Lenient>(br#"{"a":{"b":1,"c":1}}"#).is_ok());
        let invalid = from_slice::<Lenient>(br#"{"a":{"b":1,"b":1}}"#).err().unwrap();
        assert_eq!(invalid.pointer, "/a/b");
    }

    #[test]
    fn the_member_at_fault_is_named() {
        let integer = |value| format!("invalid type: {value}, expected i32");
        refuses(&[
            (r#"{"inner":{}}"#, "/inner", "missing field `value`"),
            (r#"{"inner":{"value":1,"colour":2}}"#, "/inner/colour", "unknown field `colour`, expected `value`"),
            (r#"{"inner":{"value":1.0}}"#, "/inner/value", &integer("floating point `1.0`")),
            (r#"{"inner":{"value":"1"}}"#, "/inner/value", &integer("string \"1\"")),
            (r#"{"inner":{"value":null}}"#, "/inner/value", &integer("null")),
            (r#"{"inner":{"value":2147483648}}"#, "/inner/value", "invalid value: integer `2147483648`, expected i32"),
            (r#"{"inner":{"value":1e400}}"#, "/inner/value", "number out of range"),
            (r#"{"inner":{"value":04}}"#, "/inner/value", "invalid number"),
            (r#"{"counts":{"a/b~c":true}}"#, "/counts/a~1b~0c", "invalid type: boolean `true`, expected i64"),
            (r#"{"pair":[1]}"#, "/pair", "invalid length 1, expected a tuple of size 2"),
            (r#"{"pair":[1,2,3]}"#, "/pair", "trailing characters"),
            (r#"{"word":"other"}"#, "/word", "unknown variant `other`, expected `plain`"),
            (r#"{"word":{"plain":null}}"#, "/word", "invalid type: map, expected a string"),
        ]);
    }

    #[test]
    fn nothing_may_follow_the_object() {
        for text in ["{} {}", "{}]", "{}x", "{},"] {
            refuses(&[(text, "", "trailing characters")]);
        }
    }

    #[test]
    fn what_is_no_json_is_told_in_our_words() {
        let words = |text: &str| parse(text.as_bytes()).map_err(|invalid| (invalid.pointer, invalid.message));
        let wrong = |pointer: &str, message: &str| Err((pointer.to_owned(), message.to_owned()));
        assert_eq!(words("\u{feff}{\"a\": [4.0, null]}"), Ok(serde_json::json!({ "a": [4.0, null] })));
        assert_eq!(words(r#"{"a":{"b":1,"b":1}}"#), wrong("/a/b", "is there more than once"));
        assert_eq!(words(r#"{"a":"#), wrong("/a", "is no JSON: it ends too early"));
        assert_eq!(words(r#"{"a":04}"#), wrong("/a", "is no JSON that is taken: see line 1, column 7"));
        assert_eq!(words("{}\n{}"), wrong("", "is no JSON that is taken: see line 2, column 1"));
    }

    #[test]
    fn depth_has_an_end() {
        let nested = |depth: usize| format!(r#"{{"any":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        read(&nested(126));
        let (pointer, message) = failure(&nested(127));
        assert_eq!((pointer, message.as_str()), ("/any".to_owned() + &"/0".repeat(126), "recursion limit exceeded"));
        assert_eq!(failure(&format!(r#"{{"any":{}"#, r#"{"a":"#.repeat(100_000))).1, "recursion limit exceeded");
    }
}

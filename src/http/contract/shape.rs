//! Shapes of JSON values, as the schemas of the API description state them.

use std::fmt;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::StrDeserializer;
use serde_json::{Map, Number, Value};

use super::members;
use crate::clock::Timestamp;
use crate::domain::{Syntax, without_outer_blanks};
use crate::error::{Code, Error};

/// Largest number of errors in a problem document.
const MAX_ERRORS: usize = 100;

/// Largest whole number that every JSON parser holds exactly (RFC 8259, section 6).
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

#[derive(Debug)]
pub(super) enum Shape {
    Object(Vec<Member>),
    /// An object with any members, each of one shape.
    Map(Box<Self>),
    /// A list, and the largest number of its items.
    List(Box<Self>, usize),
    Text(Text),
    Integer(Range),
    Boolean,
    Anything,
}

#[derive(Debug)]
pub(super) struct Member {
    name: String,
    required: bool,
    default: Option<Value>,
    shape: Shape,
}

#[derive(Debug)]
pub(super) enum Text {
    Any,
    Words(Vec<String>),
    Time,
    Syntax(Syntax),
}

/// Of whole numbers: what the type holds, and what the schema allows. What a body may hold is the verbs' to say.
#[derive(Debug)]
pub(super) struct Range {
    of_type: (i64, i64),
    allowed: (i64, i64),
}

/// What of a request is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Path,
    Query,
    Body,
}

/// The errors that were found so far, and the pointer to what is looked at.
pub(super) struct Checked {
    place: Place,
    pointer: String,
    errors: Vec<(String, &'static str, String)>,
}

impl Checked {
    pub(super) const fn in_a(place: Place) -> Self {
        Self { place, pointer: String::new(), errors: Vec::new() }
    }

    /// Looks at a member, item or parameter.
    pub(super) fn member(&mut self, name: impl fmt::Display, look: impl FnOnce(&mut Self)) {
        if self.is_full() {
            return;
        }
        let length = self.pointer.len();
        let escaped = name.to_string().replace('~', "~0").replace('/', "~1");
        self.pointer.push('/');
        self.pointer.push_str(&escaped);
        look(self);
        self.pointer.truncate(length);
    }

    pub(super) fn error(&mut self, code: &'static str, detail: impl fmt::Display) {
        if !self.is_full() {
            self.errors.push((self.pointer.clone(), code, detail.to_string()));
        }
    }

    /// Whether there is room for no more errors: what follows need not be looked at.
    const fn is_full(&self) -> bool {
        self.errors.len() >= MAX_ERRORS
    }

    /// Refuses the request if there is an error.
    pub(super) fn finish(self, code: Code) -> Result<(), Error> {
        let Some((pointer, _, detail)) = self.errors.first() else { return Ok(()) };
        let named = match self.place {
            Place::Body if pointer.is_empty() => "the body",
            Place::Body => pointer.as_str(),
            Place::Path | Place::Query => pointer.trim_start_matches('/'),
        };
        let refused = Error::new(code).detail(format!("{named} {detail}"));
        let at_members = self.errors.into_iter().filter(|(pointer, _, _)| !pointer.is_empty());
        Err(at_members.fold(refused, |error, (pointer, code, detail)| error.field(pointer, code, detail)))
    }
}

impl Shape {
    pub(super) fn of(description: &Value, schema: &Value) -> Result<Self, String> {
        if let Some(reference) = schema["$ref"].as_str() {
            let named = description.pointer(reference.trim_start_matches('#'));
            return Self::of(description, named.ok_or_else(|| format!("{reference} leads nowhere"))?);
        }
        if let Some(choices) = schema["oneOf"].as_array() {
            let others: Vec<&Value> = choices.iter().filter(|choice| choice["type"] != "null").collect();
            return match others.as_slice() {
                [only] => Self::of(description, only),
                _ => Err("a choice between shapes".to_owned()),
            };
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().find(|kind| *kind != "null").and_then(Value::as_str),
            kind => kind.as_str(),
        };
        Ok(match kind {
            Some("object") => Self::object(description, schema)?,
            Some("array") => {
                let most = schema["maxItems"].as_u64().and_then(|most| most.try_into().ok()).unwrap_or(usize::MAX);
                Self::List(Box::new(Self::of(description, &schema["items"])?), most)
            }
            Some("string") => Self::Text(Text::of(schema)?),
            Some("integer") => Self::Integer(Range::of(schema)),
            Some("boolean") => Self::Boolean,
            None => Self::Anything,
            Some(other) => return Err(format!("the type {other}")),
        })
    }

    fn object(description: &Value, schema: &Value) -> Result<Self, String> {
        if schema["additionalProperties"].is_object() {
            return Ok(Self::Map(Box::new(Self::of(description, &schema["additionalProperties"])?)));
        }
        if schema["properties"].is_null() {
            return Ok(Self::Anything);
        }
        let is_required = |name: &str| schema["required"].as_array().into_iter().flatten().any(|one| one == name);
        let members = members(&schema["properties"]).map(|(name, property)| {
            Ok(Member {
                name: name.clone(),
                required: is_required(name),
                default: property.get("default").cloned(),
                shape: Self::of(description, property).map_err(|error| format!("{name}: {error}"))?,
            })
        });
        members.collect::<Result<_, String>>().map(Self::Object)
    }

    const fn is_words(&self) -> bool {
        matches!(self, Self::Text(Text::Words(_)))
    }

    /// The value of a parameter's text.
    pub(super) fn value_of(&self, text: &str) -> Value {
        let read = match self {
            Self::Integer(_) if text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'.')) => {
                // More digits than any type holds are a number, too.
                let is_huge = text.starts_with(|first| matches!(first, '1'..='9'))
                    && text.bytes().all(|byte| byte.is_ascii_digit());
                let huge = || is_huge.then(|| i64::MAX.into());
                serde_json::from_str::<Value>(text).ok().filter(|number| !is_huge || !number.is_f64()).or_else(huge)
            }
            Self::Boolean => text.parse().ok().map(Value::Bool),
            _ => None,
        };
        read.unwrap_or_else(|| text.into())
    }

    /// Checks a value, and normalises it on the way.
    pub(super) fn check(&self, value: &mut Value, checked: &mut Checked) {
        match (self, value) {
            (Self::Object(shapes), Value::Object(values)) => check_members(shapes, values, checked),
            (Self::Map(shape), Value::Object(values)) => {
                values.retain(|_, value| !value.is_null());
                for (name, value) in values {
                    checked.member(name, |checked| shape.check(value, checked));
                }
            }
            // There are no more words than that; of other lists the verbs say how long they may be.
            (Self::List(shape, most), Value::Array(items)) if shape.is_words() && items.len() > *most => {
                checked.error("too_many", format_args!("must have at most {most} items"));
            }
            (Self::List(shape, _), Value::Array(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    checked.member(index, |checked| shape.check(item, checked));
                }
            }
            (Self::Text(text), Value::String(value)) => text.check(value, checked),
            (Self::Integer(range), Value::Number(number)) => range.check(number, checked),
            (Self::Boolean, Value::Bool(_)) | (Self::Anything, _) => {}
            (Self::Object(_) | Self::Map(_), _) => checked.error("malformed", "must be an object"),
            (Self::List(..), _) => checked.error("malformed", "must be an array"),
            (Self::Text(_), _) => checked.error("malformed", "must be a string"),
            (Self::Integer(range), _) => range.refuse(checked),
            (Self::Boolean, _) => checked.error("malformed", "must be true or false"),
        }
    }

    /// Removes the members of a checked value that equal their default, and the blanks around its texts, which no verb
    /// keeps.
    pub(super) fn drop_defaults(&self, value: &mut Value) {
        match (self, value) {
            (Self::Object(shapes), Value::Object(values)) => {
                for member in shapes {
                    if let Some(value) = values.get_mut(&member.name) {
                        member.shape.drop_defaults(value);
                        if member.default.as_ref() == Some(value) {
                            values.remove(&member.name);
                        }
                    }
                }
            }
            (Self::Map(shape), Value::Object(values)) => {
                values.values_mut().for_each(|value| shape.drop_defaults(value));
            }
            (Self::Text(Text::Any), Value::String(text)) => *text = without_outer_blanks(text).to_owned(),
            (Self::List(shape, _), Value::Array(items)) => {
                for item in items.iter_mut() {
                    shape.drop_defaults(item);
                }
                // Lists of texts are sets: scopes, tenants, event types.
                if let Self::Text(_) = **shape {
                    items.sort_unstable_by(|one, other| one.as_str().cmp(&other.as_str()));
                    items.dedup();
                }
            }
            _ => {}
        }
    }
}

/// A member that is null is absent; one that is not described is refused, null or not.
fn check_members(shapes: &[Member], values: &mut Map<String, Value>, checked: &mut Checked) {
    for name in values.keys().filter(|name| !shapes.iter().any(|shape| shape.name == **name)) {
        checked.member(name, |checked| checked.error("unknown", "is not a member that this call takes"));
    }
    values.retain(|_, value| !value.is_null());
    for Member { name, required, shape, .. } in shapes {
        match values.get_mut(name) {
            Some(value) => checked.member(name, |checked| shape.check(value, checked)),
            None if *required => checked.member(name, |checked| checked.error("required", "is missing")),
            None => {}
        }
    }
}

impl Text {
    fn of(schema: &Value) -> Result<Self, String> {
        if let Some(words) = schema["enum"].as_array() {
            return Ok(Self::Words(words.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect()));
        }
        if schema["format"] == "date-time" {
            return Ok(Self::Time);
        }
        match schema["pattern"].as_str() {
            Some(pattern) => Syntax::of_pattern(pattern).map(Self::Syntax).ok_or(format!("the pattern {pattern}")),
            None => Ok(Self::Any),
        }
    }

    fn check(&self, text: &mut String, checked: &mut Checked) {
        match self {
            Self::Any => {}
            Self::Words(words) if words.iter().any(|word| word == text) => {}
            Self::Words(words) => checked.error("malformed", format_args!("must be one of {}", words.join(", "))),
            Self::Time => match time(text) {
                Some(time) => *text = time.to_string(),
                None if checked.place == Place::Query => checked.error(
                    "malformed",
                    "must be a date and time of RFC 3339 such as 2026-11-23T09:00:00Z; the plus sign of an offset is \
                     written %2B in a query: 2026-11-23T14:30:00%2B05:30",
                ),
                None => checked.error(
                    "malformed",
                    "must be a date and time of RFC 3339 such as 2026-11-23T09:00:00Z or 2026-11-23T14:30:00+05:30",
                ),
            },
            Self::Syntax(syntax) => {
                if !syntax.holds(text) {
                    checked.error("malformed", syntax.words());
                }
            }
        }
    }
}

fn time(text: &str) -> Option<Timestamp> {
    let text: StrDeserializer<'_, serde::de::value::Error> = text.into_deserializer();
    Timestamp::deserialize(text).ok()
}

impl Range {
    fn of(schema: &Value) -> Self {
        let of_type = match schema["format"].as_str() {
            Some("int32") => (i32::MIN.into(), i32::MAX.into()),
            _ => (i64::MIN, i64::MAX),
        };
        let bound = |name: &str, else_: i64| schema[name].as_i64().unwrap_or(else_);
        Self { of_type, allowed: (bound("minimum", of_type.0), bound("maximum", of_type.1)) }
    }

    fn check(&self, number: &mut Number, checked: &mut Checked) {
        // Of a JSON number, 4.0 is as whole as 4.
        if let Some(whole) = number.as_f64().filter(|float| number.is_f64() && float.abs() <= MAX_EXACT)
            && whole.fract() == 0.0
            && let Ok(whole) = format!("{whole:.0}").parse::<i64>()
        {
            *number = whole.into();
        }
        // A page may have as many items as the caller likes, and a range may end behind everything: without a limit of its
        // own, a parameter is as large as its type lets it be.
        let of_type = i128::from(self.of_type.1);
        if checked.place == Place::Query
            && self.allowed.1 == self.of_type.1
            && number.as_i128().is_some_and(|number| number > of_type)
        {
            *number = self.of_type.1.into();
        }
        let (least, most) = if checked.place == Place::Body { self.of_type } else { self.allowed };
        if !number.as_i64().is_some_and(|number| (least..=most).contains(&number)) {
            self.refuse(checked);
        }
    }

    fn refuse(&self, checked: &mut Checked) {
        let (least, most) = self.allowed;
        let range = match (least == self.of_type.0, most == self.of_type.1) {
            (true, true) => String::new(),
            (false, true) => format!(" of at least {least}"),
            (true, false) => format!(" of at most {most}"),
            (false, false) => format!(" from {least} to {most}"),
        };
        checked.error("malformed", format_args!("must be a whole number{range}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_follows_the_last_error_that_is_told_is_not_looked_at() {
        let description = json!({});
        let item = json!({ "type": "object", "properties": { "at": { "type": "string" } }, "required": ["at"] });
        let shape = Shape::of(&description, &json!({ "type": "array", "items": item })).unwrap();
        let mut body = vec![json!({}); MAX_ERRORS];
        body.push(json!({ "at": " blanks " }));
        let mut list = Value::from(body);
        let mut checked = Checked::in_a(Place::Body);
        shape.check(&mut list, &mut checked);
        assert_eq!(list[MAX_ERRORS]["at"], " blanks ");
        assert_eq!(checked.finish(Code::InvalidBody).unwrap_err().fields().len(), MAX_ERRORS);
    }
}

//! Formats a log record as a JSON object on one line.

use std::fmt::{self, Write};

use log::Level;
use log::kv::{Error, Key, Source, Value, VisitSource, VisitValue};
use serde_json::Value as Json;

use crate::partition::Shard;

/// The fields that each line has, in their order.
const FIXED: [&str; 4] = ["time", "level", "target", "message"];

/// The field of the shard, which each line of a job with a shard has.
const SHARD: &str = "shard";

/// Writes the object: the fixed fields, the shard, and then the fields of the record. It has no line feed.
///
/// JSON escapes all control characters in a string, so the object is one line.
pub(super) fn write(
    line: &mut String,
    time: &str,
    (level, target, message): (Level, &str, &fmt::Arguments),
    shard: Option<Shard>,
    fields: &dyn Source,
) {
    let message = shown(message);
    let values = [time, level.as_str(), target, &message];
    let mut separator = '{';
    for (name, value) in FIXED.into_iter().zip(values) {
        push_field(line, separator, name, &value.into());
        separator = ',';
    }
    let mut names = Vec::new();
    if let Some(shard) = shard {
        push_field(line, separator, SHARD, &shard.to_string().into());
        names.push(SHARD.to_owned());
    }
    // A source that fails has no more fields.
    _ = fields.visit(&mut Fields { line, names });
    line.push('}');
}

fn push_field(line: &mut String, separator: char, name: &str, value: &Json) {
    // A `String` takes all text.
    _ = write!(line, "{separator}{}:{value}", Json::from(name));
}

/// Returns the text of a value, or its beginning if its `Display` fails.
fn shown(value: impl fmt::Display) -> String {
    let mut text = String::new();
    _ = write!(text, "{value}");
    text
}

/// Writes the fields of a record.
struct Fields<'a> {
    line: &'a mut String,
    /// The names of the fields so far, without the fixed ones.
    names: Vec<String>,
}

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let mut name = key.as_str().to_owned();
        // Many readers keep one of two fields with the same name, and others refuse the object.
        while FIXED.contains(&name.as_str()) || self.names.contains(&name) {
            name.push('_');
        }
        push_field(self.line, ',', &name, &to_json(&value));
        self.names.push(name);
        Ok(())
    }
}

/// Converts a value. Numbers and booleans keep their types; JSON has no number that is not finite.
fn to_json(value: &Value) -> Json {
    let mut json = Converted(Json::Null);
    // The conversion itself never fails.
    _ = value.visit(&mut json);
    json.0
}

struct Converted(Json);

impl<'v> VisitValue<'v> for Converted {
    fn visit_any(&mut self, value: Value) -> Result<(), Error> {
        self.0 = shown(value).into();
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), Error> {
        self.0 = Json::Null;
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_str(&mut self, value: &str) -> Result<(), Error> {
        self.0 = value.into();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::ShardBy;
    use proptest::prelude::*;

    fn line(message: &str, fields: &dyn Source) -> String {
        let time = "2026-11-23T05:19:54.001Z";
        let mut line = String::new();
        let record = (Level::Warn, "tcpcore::link", &format_args!("{message}"));
        write(&mut line, time, record, None, fields);
        line
    }

    const FIXED_PART: &str =
        r#"{"time":"2026-11-23T05:19:54.001Z","level":"WARN","target":"tcpcore::link","message":"#;

    #[test]
    fn a_line_has_the_time_the_level_the_target_and_the_message() {
        assert_eq!(line("text", &None::<(&str, u64)>), format!("{FIXED_PART}\"text\"}}"));
    }

    #[test]
    fn fields_follow_with_their_types() {
        let text = "127.0.0.1:8001";
        let fields = [
            ("server", Value::from_display(&text)),
            ("failures", Value::from(u64::MAX)),
            ("change", Value::from(-1)),
            ("factor", Value::from(1.5)),
            ("infinite", Value::from(f64::INFINITY)),
            ("was_connected", Value::from(true)),
            ("nothing", Value::null()),
            ("word", Value::from("a \"b\"")),
            ("letter", Value::from('c')),
        ];
        assert_eq!(
            line("", &fields),
            format!(r#"{FIXED_PART}"","server":"127.0.0.1:8001","failures":18446744073709551615,"#)
                + r#""change":-1,"factor":1.5,"infinite":null,"was_connected":true,"#
                + r#""nothing":null,"word":"a \"b\"","letter":"c"}"#
        );
    }

    #[test]
    fn a_line_of_a_shard_names_it_before_the_fields() {
        let shard = Shard::new(1, 4, ShardBy::Slice).ok();
        let (mut line, record) = (String::new(), (Level::Info, "t", &format_args!("m")));
        write(&mut line, "now", record, shard, &[("shard", 7)]);
        let expected =
            r#"{"time":"now","level":"INFO","target":"t","message":"m","shard":"1/4","shard_":7}"#;
        assert_eq!(line, expected);
    }

    #[test]
    fn a_field_whose_name_is_taken_gets_another_one() {
        let fields = [("message", 1), ("error", 2), ("error", 3), ("message_", 4), ("error", 5)];
        let names = r#","message_":1,"error":2,"error_":3,"message__":4,"error__":5}"#;
        assert_eq!(line("", &fields), format!(r#"{FIXED_PART}"""#) + names);
    }

    #[test]
    fn a_display_that_fails_shortens_its_text() {
        struct Failing;
        impl fmt::Display for Failing {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("begin")?;
                Err(fmt::Error)
            }
        }
        let line = line("", &("text", Value::from_display(&Failing)));
        assert!(line.ends_with(r#","text":"begin"}"#), "{line}");
        assert_eq!(shown(Failing), "begin");
    }

    proptest! {
        #[test]
        fn a_line_is_one_json_object_with_each_field_for_any_bytes(
            message in prop::collection::vec(any::<u8>(), 0..200),
            fields in prop::collection::vec(("[a-c\\x00\n\"\\\\]{0,2}|time|level|message|target", ".{0,20}"), 0..8),
        ) {
            let message = String::from_utf8_lossy(&message);
            let pairs: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
            let line = line(&message, &pairs.as_slice());
            prop_assert!(!line.contains(['\n', '\r']), "{}", line);
            let object: Json = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(&object["message"], message.as_ref());
            prop_assert_eq!(&object["level"], "WARN");
            // The parser keeps one of two members with the same name.
            let object = object.as_object().unwrap();
            prop_assert_eq!(object.len(), FIXED.len() + fields.len());
            for (_, value) in &fields {
                prop_assert!(object.values().any(|found| found == value.as_str()));
            }
        }
    }
}

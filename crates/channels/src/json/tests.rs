use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn check(text: &str) -> Result<String, JsonError> {
    canonical(&Bytes::copy_from_slice(text.as_bytes())).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

#[test]
fn values_keep_what_they_say() {
    for same in [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "1",
        "1.0",
        "1.50",
        "0.1",
        "1e3",
        "1E+3",
        "-1.5e-7",
        "1e308",
        "1e-400",
        "123456789012345678901234567890123456789012345678901234567890",
        "\"\"",
        "\"é€😀\u{2028}/\u{7f}\"",
        r#""\u0000\u001f\b\f\n\r\t\"\\""#,
        "[]",
        "{}",
        "[[],{},[[]]]",
        r#"{"a":1,"b":{"a":[1,{"a":2}]},"":0}"#,
    ] {
        assert_eq!(check(same).as_deref(), Ok(same));
        let bytes = Bytes::from(same);
        assert_eq!(canonical(&bytes).unwrap().as_ptr(), bytes.as_ptr(), "{same} is copied");
        assert_eq!(check(&format!(" \t\r\n{same}\n ")).as_deref(), Ok(same));
        assert_eq!(check(&format!("[{same} , {same}]")), Ok(format!("[{same},{same}]")));
    }
    let digits = "9".repeat(5000);
    assert_eq!(check(&digits), Ok(digits));
}

#[test]
fn spellings_become_one() {
    for (given, expected) in [
        (r#""\/""#, r#""/""#),
        (r#""\u0041\u00e9\u20ac\ud83d\ude00""#, "\"Aé€😀\""),
        (r#""\uD83D\uDE00x""#, "\"😀x\""),
        (r#""\u0008\u0009\u000a\u000c\u000d\u0022\u005c""#, r#""\b\t\n\f\r\"\\""#),
        (r#""\u001F\u0000""#, r#""\u001f\u0000""#),
        (" [ 1 , 2 ] ", "[1,2]"),
        ("{ }", "{}"),
        ("[\n]", "[]"),
        ("{ \"a\" : 1 , \"b\" : [ ] }", r#"{"a":1,"b":[]}"#),
    ] {
        assert_eq!(check(given).as_deref(), Ok(expected), "{given}");
    }
}

#[test]
fn of_equal_keys_the_first_wins() {
    for (given, expected) in [
        (r#"{"a":1,"a":2}"#, r#"{"a":1}"#),
        (r#"{"a":1,"a":2,"b":3,"a":4}"#, r#"{"a":1,"b":3}"#),
        (r#"{"a":1,"\u0061":2}"#, r#"{"a":1}"#),
        (r#"{"\u0061":1,"a":2}"#, r#"{"a":1}"#),
        (r#"{"\u0061":1,"\u0061":2,"\u0062":3,"b":4}"#, r#"{"a":1,"b":3}"#),
        (r#"{"x":{"a":1,"a":{"a":1,"a":2}},"a":{"x":1},"x":[{"q":1,"q":2}]}"#, r#"{"x":{"a":1},"a":{"x":1}}"#),
        (r#"[{"a":1,"a":2},{"a":3}]"#, r#"[{"a":1},{"a":3}]"#),
        (r#" { "a" : 1 , "a" : [ 1 , { "b" : "\u0041" } ] , "c" : 2 } "#, r#"{"a":1,"c":2}"#),
        (r#"{"a":1,"a":"\/"}"#, r#"{"a":1}"#),
        (r#"{"a\/":1, "a/" : 2, "z" : 3}"#, r#"{"a/":1,"z":3}"#),
        (r#"{"é":1,"\u00e9":2,"e":3}"#, "{\"é\":1,\"e\":3}"),
        (r#"{"":1,"":2}"#, r#"{"":1}"#),
    ] {
        assert_eq!(check(given).as_deref(), Ok(expected), "{given}");
    }
}

#[test]
fn many_keys_are_told_apart() {
    let members = |count: usize| (0..count).map(|key| format!("\"k{key}\":{key}")).collect::<Vec<_>>().join(",");
    for count in [15, 16, 17, 18, 1000] {
        let once = format!("{{{}}}", members(count));
        assert_eq!(check(&once).as_deref(), Ok(once.as_str()));
        let twice = format!("{{{0},{0},\"\\u006b{1}\":0}}", members(count), count - 1);
        assert_eq!(check(&twice), Ok(once.clone()));
        let nested = format!("[{once},{{\"o\":{twice},\"k0\":{twice}}}]");
        assert_eq!(check(&nested), Ok(format!("[{once},{{\"o\":{once},\"k0\":{once}}}]")));
    }
}

#[test]
fn what_is_refused() {
    let syntax = |at| JsonError::Syntax { at };
    for (given, expected) in [
        ("", JsonError::End),
        ("  ", JsonError::End),
        ("[1", JsonError::End),
        ("{\"a\"", JsonError::End),
        ("\"abc", JsonError::End),
        ("\"abc\\", JsonError::End),
        ("-", JsonError::End),
        ("1.", JsonError::End),
        ("1e", JsonError::End),
        ("nul", syntax(0)),
        ("nullx", syntax(4)),
        ("NaN", syntax(0)),
        ("Infinity", syntax(0)),
        ("-Infinity", syntax(1)),
        ("'a'", syntax(0)),
        ("01", syntax(1)),
        ("+1", syntax(0)),
        (".5", syntax(0)),
        ("1.e5", syntax(2)),
        ("0x10", syntax(1)),
        ("[1,]", syntax(3)),
        ("[,1]", syntax(1)),
        ("[1 2]", syntax(3)),
        ("[1}", syntax(2)),
        ("{\"a\":1]", syntax(6)),
        ("{\"a\":1,}", syntax(7)),
        ("{a:1}", syntax(1)),
        ("{1:1}", syntax(1)),
        ("{\"a\" 1}", syntax(5)),
        ("{} {}", syntax(3)),
        ("[] // no", syntax(3)),
        ("\"\n\"", syntax(1)),
        ("\"\u{0}\"", syntax(1)),
        ("\"\\x\"", syntax(2)),
        ("\"\\u12g4\"", syntax(1)),
        ("\"\\u+123\"", syntax(1)),
        ("\u{feff}1", syntax(0)),
        ("\u{a0}1", syntax(0)),
        (r#""\ud800""#, JsonError::LoneSurrogate { at: 1 }),
        (r#""\udc00""#, JsonError::LoneSurrogate { at: 1 }),
        (r#""\ud800\ud800""#, JsonError::LoneSurrogate { at: 1 }),
        (r#""\ud800\u0041""#, JsonError::LoneSurrogate { at: 1 }),
        (r#""a\ud83dx""#, JsonError::LoneSurrogate { at: 2 }),
        (r#"{"a":1,"a":"\ud800"}"#, JsonError::LoneSurrogate { at: 12 }),
        ("1e309", JsonError::Overflow { at: 0 }),
        ("[-1.5E+400]", JsonError::Overflow { at: 1 }),
    ] {
        assert_eq!(check(given), Err(expected), "{given}");
    }
    let long_double = format!("{}.0", "9".repeat(400));
    assert_eq!(check(&long_double), Err(JsonError::Overflow { at: 0 }));
    assert_eq!(canonical(&Bytes::from_static(b"\"\xff\"")), Err(JsonError::Utf8));
    assert_eq!(canonical(&Bytes::from_static(b"\"\xed\xa0\x80\"")), Err(JsonError::Utf8));
    assert_eq!(canonical(&Bytes::from_static(b"\"\xc0\xaf\"")), Err(JsonError::Utf8));
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(check(&nested(DEPTH_MAX)).is_ok());
    assert_eq!(check(&nested(DEPTH_MAX + 1)), Err(JsonError::Depth { at: DEPTH_MAX }));
    assert_eq!(check(&"[".repeat(1_000_000)), Err(JsonError::Depth { at: DEPTH_MAX }));
    assert_eq!(check(&"{\"a\":".repeat(1_000_000)), Err(JsonError::Depth { at: DEPTH_MAX * 5 }));
}

/// Quadratic work would take minutes here, linear work takes well under a second even in a slow build.
#[test]
fn large_texts_take_linear_time() {
    let started = Instant::now();
    let members: Vec<_> = (0..100_000).map(|key| format!(" \"k{key}\" : [ \"\\u0041\" ]")).collect();
    let once = format!("{{{}}}", members.join(","));
    let twice = format!("{{{0},{0}}}", members.join(","));
    assert_eq!(check(&once).unwrap(), check(&twice).unwrap());
    let shallow = format!("[{}]", vec!["{\"a\":{\"b\":[1 ,2]},\"a\":3}"; 100_000].join(","));
    assert!(check(&shallow).is_ok());
    assert!(started.elapsed() < Duration::from_secs(30), "took {:?}", started.elapsed());
}

/// A JSON value as a list of members, so that keys may repeat.
#[derive(Debug, Clone)]
enum Tree {
    Leaf(Value),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// What a reader sees for whom the first of equal keys wins.
    fn value(&self) -> Value {
        match self {
            Self::Leaf(value) => value.clone(),
            Self::Array(items) => items.iter().map(Self::value).collect(),
            Self::Object(members) => {
                let mut map = serde_json::Map::new();
                for (key, tree) in members {
                    map.entry(key.clone()).or_insert_with(|| tree.value());
                }
                Value::Object(map)
            }
        }
    }

    /// Writes it in one of many spellings, chosen by `style`.
    fn write(&self, out: &mut String, style: &mut impl FnMut() -> u8) {
        space(out, style());
        match self {
            Self::Leaf(Value::String(text)) => write_text(out, text, style),
            Self::Leaf(value) => out.push_str(&value.to_string()),
            Self::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    item.write(out, style);
                }
                space(out, style());
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (index, (key, tree)) in members.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    space(out, style());
                    write_text(out, key, style);
                    space(out, style());
                    out.push(':');
                    tree.write(out, style);
                }
                space(out, style());
                out.push('}');
            }
        }
        space(out, style());
    }
}

fn space(out: &mut String, style: u8) {
    out.push_str(["", "", "", "", " ", "\n\t", "\r"][usize::from(style) % 7]);
}

fn write_text(out: &mut String, text: &str, style: &mut impl FnMut() -> u8) {
    if style().is_multiple_of(2) {
        out.push_str(&Value::from(text).to_string());
        return;
    }
    out.push('"');
    for unit in text.encode_utf16() {
        let escape = if style().is_multiple_of(2) { format!("\\u{unit:04x}") } else { format!("\\u{unit:04X}") };
        out.push_str(&escape);
    }
    out.push('"');
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter_map("finite", |number| number.is_finite().then(|| Value::from(number))),
        any::<String>().prop_map(Value::from),
        "[\\x00-\\x1f\"\\\\/a]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_map(Tree::Leaf).prop_recursive(5, 64, 24, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Tree::Array),
            prop::collection::vec(("[ab\"é\n]{0,1}", inner.clone()), 0..6).prop_map(Tree::Object),
            prop::collection::vec(("[a-f]{1,2}", inner), 12..24).prop_map(Tree::Object),
        ]
    })
}

proptest! {
    #[test]
    fn any_spelling_of_a_value_gives_its_canonical_form(tree in tree(), styles in prop::collection::vec(any::<u8>(), 1..64)) {
        let mut styles = styles.iter().copied().cycle();
        let mut text = String::new();
        tree.write(&mut text, &mut || styles.next().unwrap());
        // serde_json writes the same form as we do, but for the spelling of numbers, which is its own here.
        let canonical = check(&text).unwrap();
        prop_assert_eq!(&canonical, &tree.value().to_string());
        prop_assert_eq!(check(&canonical), Ok(canonical));
    }

    #[test]
    fn what_is_accepted_is_what_serde_json_accepts(text in "[\\[\\]{}:,\" 0-9eE.+\\-ntrualse\\\\u]{0,12}") {
        let ours = check(&text);
        let theirs = serde_json::from_str::<Box<serde_json::value::RawValue>>(&text);
        let overflow = matches!(ours, Err(JsonError::Overflow { .. } | JsonError::LoneSurrogate { .. }));
        prop_assert!(overflow || ours.is_ok() == theirs.is_ok(), "{:?} {:?}", ours, theirs);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let bytes = Bytes::from(bytes);
        if let Ok(once) = canonical(&bytes) {
            prop_assert_eq!(canonical(&once), Ok(once.clone()));
        }
    }

    #[test]
    fn a_changed_byte_never_panics(tree in tree(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut text = String::new();
        tree.write(&mut text, &mut || 4);
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(once) = canonical(&Bytes::from(bytes)) {
            prop_assert_eq!(canonical(&once), Ok(once.clone()));
        }
    }

    #[test]
    fn strings_are_written_as_serde_json_writes_them(text in any::<String>(), odd in "[\\x00-\\x7f]{0,20}") {
        for text in [text, odd] {
            let mut out = Vec::new();
            write_string(&mut out, &text);
            prop_assert_eq!(std::str::from_utf8(&out).unwrap(), Value::from(text.as_str()).to_string());
            prop_assert_eq!(unquote(&out).unwrap().into_owned(), text.into_bytes());
        }
    }
}

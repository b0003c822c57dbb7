//! What publishers send, and what becomes of it.

use proptest::prelude::*;

use super::*;

/// Every record as the numbers it carries or the code of its rejection.
fn told(batch: &Batch) -> Vec<String> {
    let mut told = vec![String::new(); batch.len()];
    for indexed in &batch.quotes {
        let quote = &indexed.quote;
        let sides = quote.sides().copied().unwrap_or_default();
        let last = quote.last().map(|last| last.price);
        told[indexed.index as usize] =
            format!("{} {:?} {:?} {last:?} {:?}", quote.symbol(), sides.bid, sides.ask, quote.ts());
    }
    for rejected in batch.rejected() {
        told[rejected.index as usize] = rejected.rejection.code().to_owned();
    }
    told
}

fn json(body: &str) -> Vec<String> {
    told(&decode_json(body.as_bytes(), 100).unwrap())
}

fn refusal(decoded: Result<Batch, BodyError>) -> String {
    let error = decoded.unwrap_err();
    format!("{}: {error}", error.code())
}

#[test]
fn a_long_mistake_is_not_repeated_whole() {
    let long = "x".repeat(1_000_000);
    for body in [
        format!(r#"{{"symbol":"A","bid":1,"pseq":"{long}"}}"#),
        format!(r#"{{"symbol":"{long}","bid":1}}"#),
        format!(r#"{{"symbol":"A","bid":"{long}"}}"#),
        format!(r#"{{"symbol":"A","bid":1,"ts":"{long}"}}"#),
        format!(r#"{{"symbol":["{long}"],"bid":1}}"#),
        format!(r#"["{long}"]"#),
    ] {
        let batch = decode_json(body.as_bytes(), 100).unwrap();
        let rejected = batch.rejected()[0].rejection.to_string();
        assert!(rejected.len() < 300, "{} bytes: {}", rejected.len(), &rejected[..100]);
    }
}

#[test]
fn a_json_body_is_a_quote_or_an_array_of_them() {
    let plain = "EURUSD Some(1.10) Some(1.2) None Some(5)";
    assert_eq!(json(r#" {"symbol":"EURUSD","bid":1.10,"ask":"1.2","ts":5,"venue":{"x":[1]}} "#), [plain]);
    assert_eq!(json(r#"{"symbol":"EURUSD","bid":1.10,"ask":"1.2","ts":"1970-01-01T00:00:00.000005Z"}"#), [plain]);
    assert_eq!(json(r#"{"symbol":"EUR\u0055SD","bid":1.10,"ask":"1.2","ts":"5","last":null}"#), [plain]);
    assert_eq!(json("[]"), [""; 0]);
    let body = r#"[{"symbol":"A","last":1}, 7, {"symbol":"A","bid":1e5}, {"symbol":"A"}, {"bid":1}, {"symbol":"a b","bid":1},
        {"symbol":7,"bid":1}, {"symbol":"A","bid":1,"bid":2}, {"symbol":"A","bid":"1\u0030"}, {"symbol":"A","bid":1,"pseq":"x"},
        {"symbol":"A","bid":-1}, {"symbol":"A","bid":1,"ts":"soon"}, {"symbol":"A","bid":1,"ask_size":[1]}, {"symbol":"A","bid":1,"pseq":1},
        {"symbol":"A","bid":1,"id":7}]"#;
    let expected = [
        "A None None Some(1) None",
        "malformed",
        "invalid_price",
        "missing_field",
        "missing_field",
        "invalid_symbol",
        "malformed",
        "malformed",
        "invalid_price",
        "malformed",
        "invalid_price",
        "invalid_ts",
        "invalid_size",
        "missing_field",
        "malformed",
    ];
    assert_eq!(json(body), expected);
}

#[test]
fn a_json_body_that_is_none_is_refused_as_a_whole() {
    let refused = |body: &[u8]| refusal(decode_json(body, 2));
    assert!(refused(b"").contains("empty"));
    assert!(refused(b"7").contains("an object") || refused(b"7").contains("JSON object"));
    assert!(refused(b"[{\"symbol\":\"A\",\"bid\":1},").contains("line 1 column"));
    assert!(refused(b"{\"symbol\":\"A\",\"bid\":1} x").contains("trailing"));
    assert!(refused(b"{\"symbol\":\"\xff\"}").contains("UTF-8"));
    assert!(refused(b"[1,2,3]").starts_with("too_large: a batch holds at most 2"));
}

#[test]
fn a_bad_line_costs_itself_only() {
    let body =
        b"{\"symbol\":\"A\",\"bid\":1}\r\n\n  \n{\"symbol\":\"A\",\"bid\":\n[]\n\xff\n{\"symbol\":\"B\",\"bid\":2}";
    let batch = decode_ndjson(body, 10).unwrap();
    assert_eq!(
        told(&batch),
        ["A Some(1) None None None", "malformed", "malformed", "malformed", "B Some(2) None None None"]
    );
    let problem = batch.rejected()[0].rejection.to_string();
    assert!(problem.starts_with("line 4: EOF while parsing") && problem.ends_with("at column 20"), "{problem}");
    assert!(refusal(decode_ndjson(b"{}\n{}\n{}", 2)).starts_with("too_large"));
    assert_eq!(told(&decode_ndjson(b"", 2).unwrap()), [""; 0]);
}

#[test]
fn csv_columns_come_by_name_in_any_order() {
    let body = "\u{feff}bid, symbol ,ts,id,publisher,pseq,ask\n1.10,EURUSD,5,,,,1.2\n,EURUSD,,,,,\n1,A,,x,p,7,\n1,A,,,p,,\n1,A,,,p,x,\n1,A\n\"1\",\"A\",,,,,\n\t1\x0c,A,,,,,\n1\x0b,A,,,,,\n";
    let batch = decode_csv(body.as_bytes(), 10).unwrap();
    assert_eq!(
        told(&batch),
        [
            "EURUSD Some(1.10) Some(1.2) None Some(5)",
            "missing_field",
            "A Some(1) None None None",
            "missing_field",
            "invalid_mark",
            "malformed",
            "A Some(1) None None None",
            "A Some(1) None None None",
            "invalid_price",
        ]
    );
    let marked = batch.quotes().nth(1).unwrap();
    assert_eq!((marked.id().unwrap().as_str(), marked.mark().unwrap().pseq), ("x", 7));
    assert_eq!(batch.rejected()[3].rejection.to_string(), "line 7: has 2 cells, the header has 7");
}

#[test]
fn a_csv_header_must_make_sense() {
    let refused = |body: &str| refusal(decode_csv(body.as_bytes(), 1));
    assert!(refused("EURUSD,1,2\n").contains("unknown column \"EURUSD\"; the columns are symbol"));
    assert!(refused("bid,ask\n1,2\n").contains("symbol among them"));
    assert!(refused("").contains("symbol among them"));
    assert!(refused("symbol,bid,bid\n").contains("twice"));
    assert!(refused("symbol,bid\nA,1\nA,2\n").starts_with("too_large"));
}

#[test]
fn protobuf_quotes_are_checked_like_all_others() {
    use prost::Message as _;
    use tickwire_proto::v1 as pb;
    let quote = |symbol: &str, bid: &str| pb::Quote { symbol: symbol.into(), bid: bid.into(), ..pb::Quote::default() };
    let quotes = vec![
        quote("A", "1.10"),
        quote("A", "1e5"),
        quote("", "1"),
        quote("A", ""),
        pb::Quote { pseq: 1, ..quote("A", "1") },
    ];
    let message = pb::PublishRequest { quotes }.encode_to_vec();
    let batch = decode_publish(&message, 10).unwrap();
    assert_eq!(
        told(&batch),
        ["A Some(1.10) None None None", "invalid_price", "invalid_symbol", "missing_field", "missing_field"]
    );
    assert!(refusal(decode_publish(&message, 2)).starts_with("too_large"));
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_body() {
    let object = "\u{feff}{\"symbol\":\"A\",\"bid\":1}";
    let table = "\u{feff}symbol,bid\nA,1\n";
    for batch in
        [decode_json(object.as_bytes(), 1), decode_ndjson(object.as_bytes(), 1), decode_csv(table.as_bytes(), 1)]
    {
        assert_eq!(batch.unwrap().quotes().count(), 1);
    }
}

#[test]
fn an_update_reads_back_as_the_public_message() {
    let payload =
        bytes::Bytes::from_static(br#"{"symbol":"A","bid":"1.10","ts":5,"crossed":true,"epoch":"e","seq":7,"n":3}"#);
    let update = update_from_json(&payload).unwrap();
    assert_eq!((update.bid.as_str(), update.ask.as_str(), update.ts, update.seq, update.n), ("1.10", "", 5, 7, 3));
}

proptest! {
    /// No bytes panic a decoder, and no record is lost between what is taken and what is rejected.
    #[test]
    fn every_record_is_accounted_for(body in "[\\[\\]{}\",:a-z0-9\\\\ \n.-]{0,200}") {
        let decoded = [decode_json(body.as_bytes(), 50), decode_ndjson(body.as_bytes(), 50), decode_csv(body.as_bytes(), 50)];
        for batch in decoded.into_iter().flatten() {
            prop_assert_eq!(batch.len(), batch.quotes().len() + batch.rejected().len());
        }
    }

    #[test]
    fn digits_pass_through_every_format_untouched(bid in "(0|[1-9][0-9]{0,17})\\.[0-9]{0,17}[1-9]", ask in "[1-9][0-9]{0,17}") {
        let object = format!(r#"{{"symbol":"A","bid":{bid},"ask":"{ask}"}}"#);
        let table = format!("symbol,bid,ask\nA,{bid},{ask}\n");
        for batch in [decode_json(object.as_bytes(), 1), decode_ndjson(object.as_bytes(), 1), decode_csv(table.as_bytes(), 1)] {
            let batch = batch.unwrap();
            let sides = *batch.quotes().next().unwrap().sides().unwrap();
            prop_assert_eq!((sides.bid.unwrap().to_string(), sides.ask.unwrap().to_string()), (bid.clone(), ask.clone()));
        }
    }
}

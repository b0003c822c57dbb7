//! The whole bench against a server that breaks its promises on purpose: each fault must be in the report.

use std::thread;

use super::*;
use crate::{limit::Ports, report::Delivered};

fn load(sockets: usize) -> Load {
    Load {
        scenario: "fault",
        sockets,
        symbols: 1,
        topics_per_socket: 1,
        rate: Rate::PerSecond(200),
        payload: 200,
        publishers: 1,
        batch: 256,
        readers: 1,
        storms: 0,
        slow: None,
        warm_up: Duration::ZERO,
        duration: Duration::from_millis(200),
        cpu: None,
    }
}

/// What a run reports of a server that makes what it sends of the frames that are published: `make(number, frame, out)`.
fn measure(mut make: impl FnMut(u64, &[u8], &mut Vec<u8>) + Send + 'static) -> Report {
    let ports = Ports::open().unwrap();
    let limit = Limit::at(ports.sockets.local_addr().unwrap(), ports.feed.local_addr().unwrap());
    let target = Target { dialect: Arc::new(limit), admin: None, pid: Some(std::process::id()) };
    let (done, keep) = std::sync::mpsc::sync_channel::<()>(1);
    let server = thread::spawn(move || {
        let mut number = 0;
        let work = LimitServer { sockets: 2, per_call: 1, cpu: None };
        let sockets = ports.serve(work, |frame, out| {
            number += 1;
            make(number, frame, out);
        });
        // A broken connection is what some of the faults make.
        let _ = keep.recv();
        drop(sockets);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let report = runtime.block_on(run(&target, &load(2))).unwrap();
    drop(done);
    server.join().unwrap();
    report
}

/// A frame with another text in place of some.
fn changed(frame: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(crate::frames::split(frame).unwrap().payload.to_vec()).unwrap();
    assert!(text.contains(from), "{text}");
    let text = text.replace(from, to);
    let mut out = tickwire_channels::websocket::Header::new(crate::frames::Opcode::Text, text.len()).as_ref().to_vec();
    out.extend_from_slice(text.as_bytes());
    out
}

#[test]
fn a_server_that_keeps_its_promises_is_clean() {
    let report = measure(|_, frame, out| out.extend_from_slice(frame));
    assert!(report.clean(), "{report}");
    let delivered = report.delivered.unwrap();
    assert_eq!((delivered.checks.deliveries, delivered.owed, delivered.missing), (80, 80, 0));
    assert_eq!(delivered.last_socket.unwrap().count, 40);
    assert!(delivered.per_read.mean >= 1.0 && delivered.bytes_per_delivery > 200.0);
}

#[test]
fn every_fault_of_a_server_is_reported() {
    type Make = Box<dyn FnMut(u64, &[u8], &mut Vec<u8>) + Send>;
    type Told = fn(&Delivered) -> bool;
    let mut held = Vec::new();
    let faults: Vec<(&str, Make, Told)> = vec![
        (
            "drops one",
            Box::new(|number, frame, out| {
                if number != 10 {
                    out.extend_from_slice(frame)
                }
            }),
            |seen| seen.checks.lost == 2,
        ),
        (
            "drops the last",
            Box::new(|number, frame, out| {
                if number != 40 {
                    out.extend_from_slice(frame)
                }
            }),
            |seen| seen.missing == 2,
        ),
        (
            "repeats one",
            Box::new(|number, frame, out| out.extend_from_slice(&frame.repeat(if number == 10 { 2 } else { 1 }))),
            |seen| seen.checks.repeated == 2,
        ),
        (
            "swaps two",
            Box::new(move |number, frame, out| match number {
                10 => held = frame.to_vec(),
                11 => out.extend_from_slice(&[frame, &held].concat()),
                _ => out.extend_from_slice(frame),
            }),
            |seen| seen.checks.disordered == 2 && seen.checks.lost == 2,
        ),
        (
            "says a wrong n",
            Box::new(|number, frame, out| match number {
                10 => out.extend_from_slice(&changed(frame, "}]", ",\"n\":3}]")),
                _ => out.extend_from_slice(frame),
            }),
            |seen| seen.checks.overcounted == 2,
        ),
        (
            "sends of another epoch",
            Box::new(|number, frame, out| match number {
                10 => out.extend_from_slice(&changed(frame, "bench-limit", "bench-stale")),
                _ => out.extend_from_slice(frame),
            }),
            |seen| seen.checks.unannounced == 4,
        ),
        (
            "cuts the last frame off",
            Box::new(|number, frame, out| {
                out.extend_from_slice(if number == 40 { &frame[..frame.len() - 5] } else { frame });
            }),
            |seen| seen.failed == 2 && seen.failure.as_ref().is_some_and(|told| told.contains("without its end")),
        ),
        (
            "cuts a frame off in the middle",
            Box::new(|number, frame, out| {
                out.extend_from_slice(if number == 10 { &frame[..frame.len() - 5] } else { frame });
            }),
            |seen| seen.failed > 0,
        ),
    ];
    // All at once: each takes two seconds, nearly all of which is waiting.
    let running: Vec<_> =
        faults.into_iter().map(|(name, make, told)| (name, told, thread::spawn(move || measure(make)))).collect();
    for (name, told, run) in running {
        let report = run.join().unwrap();
        assert!(!report.clean(), "{name}: {report}");
        assert!(report.delivered.as_ref().is_some_and(told), "{name}: {report}");
    }
}

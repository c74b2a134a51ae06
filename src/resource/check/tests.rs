//! Checks against servers of this process, on ports of the loopback that the kernel chooses.

use super::*;
use crate::config::health::{HttpProbe, Page};
use crate::config::model::{ResourceKind, Standby};
use crate::core::FailurePolicy;
use crate::ids::GroupName;
use crate::resource::Guard;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

const EVERY: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(5);

fn check(probe: Probe, failures: u32) -> HealthCheck {
    HealthCheck {
        probe,
        interval: EVERY,
        timeout: EVERY * 20,
        failures,
        successes: 1,
        start_grace: Duration::ZERO,
    }
}

fn resource(id: &str, checks: Vec<HealthCheck>) -> Resource {
    Resource {
        id: id.to_owned(),
        kind: ResourceKind::Unit {
            name: "x.service".to_owned(),
            standby: Standby::Stopped,
        },
        start_timeout: PATIENCE,
        stop_timeout: PATIENCE,
        policy: FailurePolicy::default(),
        checks,
    }
}

/// The checks of a group of two resources, and those who are told.
struct Stage {
    checks: Checks,
    changes: watch::Receiver<()>,
    events: mpsc::Receiver<HandsEvent>,
}

impl Stage {
    fn new(first: Vec<HealthCheck>, last: Vec<HealthCheck>, group: Vec<HealthCheck>) -> Self {
        let (changed, changes) = watch::channel(());
        let (sender, events) = mpsc::channel(16);
        let units = Units::new(Vec::new(), Guard::default(), changed.clone());
        let group = Group {
            name: GroupName::new("web").unwrap(),
            resources: vec![resource("first", first), resource("last", last)],
            checks: group,
            here: true,
            stop_margin: Duration::from_millis(250),
        };
        let checks = Checks::new(Arc::new(group), Arc::new(units), changed, sender);
        Self {
            checks,
            changes,
            events,
        }
    }

    fn resource(&self, position: usize) -> &Resource {
        &self.checks.group.resources[position]
    }

    fn begin(&self, position: usize) {
        self.checks.begin(self.resource(position));
    }

    fn fault(&self, position: usize) -> Option<String> {
        self.checks.fault(self.resource(position))
    }

    /// Waits for the next change, then gives the fault.
    async fn next_fault(&mut self, position: usize) -> Option<String> {
        timeout(PATIENCE, self.changes.changed())
            .await
            .unwrap()
            .unwrap();
        self.fault(position)
    }

    async fn note(&mut self) -> String {
        match timeout(PATIENCE, self.events.recv()).await.unwrap() {
            Some(HandsEvent::Note { text, .. }) => text,
            other => panic!("{other:?}"),
        }
    }
}

fn run<F: Future>(test: F) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn write(stream: &TcpStream, mut text: &[u8]) {
    while !text.is_empty() {
        stream.writable().await.unwrap();
        if let Ok(length) = stream.try_write(text) {
            text = &text[length..];
        }
    }
}

/// Answers each request with the next of these, the last one for ever.
fn serve(listener: TcpListener, answers: Vec<&'static str>) {
    tokio::spawn(async move {
        let mut next = 0;
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                stream.readable().await.unwrap();
                let mut piece = [0; 100];
                let length = stream.try_read(&mut piece).unwrap_or(0);
                request.extend_from_slice(&piece[..length]);
            }
            write(&stream, answers[next].as_bytes()).await;
            next = (next + 1).min(answers.len() - 1);
        }
    });
}

fn http(address: SocketAddr, text: Option<&str>) -> Probe {
    Probe::Http(HttpProbe {
        address,
        page: Page {
            host: "localhost".to_owned(),
            path: "/".to_owned(),
            status: Vec::new(),
            text: text.map(str::to_owned),
        },
    })
}

const GOOD: &str = "HTTP/1.1 200 OK\r\n\r\nwell";
const BAD: &str = "HTTP/1.1 500 Oh\r\n\r\n";

#[test]
fn so_many_bad_answers_are_a_fault_and_a_good_one_ends_it() {
    run(async {
        let (listener, address) = listener().await;
        serve(listener, vec![GOOD, BAD, GOOD, BAD, BAD, BAD, GOOD]);
        let mut stage = Stage::new(vec![check(http(address, None), 3)], vec![], vec![]);
        stage.begin(0);
        let fault = stage.next_fault(0).await.unwrap();
        assert_eq!(
            fault,
            "http://localhost/: 3 times in a row, last: status 500, expected 200 to 399"
        );
        assert_eq!(stage.next_fault(0).await, None);
        let note = stage.note().await;
        assert!(
            note.contains("status 500") && note.contains("3 such answers"),
            "{note}"
        );
        // The second time it began to fail came too soon after the first to be told.
        assert!(stage.events.try_recv().is_err());
    });
}

#[test]
fn a_text_is_looked_for_over_a_real_connection() {
    run(async {
        let (listener, address) = listener().await;
        serve(listener, vec![GOOD]);
        let Probe::Http(there) = http(address, Some("well")) else {
            unreachable!()
        };
        assert_eq!(http::ask(&there).await, Ok(()));
        let Probe::Http(missing) = http(address, Some("ill")) else {
            unreachable!()
        };
        let told = http::ask(&missing).await.unwrap_err();
        assert!(told.contains("does not contain \"ill\""), "{told}");
    });
}

#[test]
fn a_server_that_accepts_and_says_nothing_runs_into_the_time_out() {
    run(async {
        let (_listener, address) = listener().await;
        let mut stage = Stage::new(vec![check(http(address, None), 1)], vec![], vec![]);
        stage.begin(0);
        assert_eq!(
            stage.next_fault(0).await.unwrap(),
            "http://localhost/: no answer within 200ms"
        );
    });
}

#[test]
fn a_closed_port_is_a_fault_of_the_last_resource_where_the_group_is_checked() {
    run(async {
        let (listener, address) = listener().await;
        let mut stage = Stage::new(vec![], vec![], vec![check(Probe::Tcp { address }, 2)]);
        stage.begin(0);
        assert!(stage.checks.running().is_empty(), "not all is started yet");
        stage.begin(1);
        sleep(EVERY * 10).await;
        assert_eq!(stage.fault(1), None);
        drop(listener);
        assert_eq!(
            stage.next_fault(1).await.unwrap(),
            format!("the group's check tcp {address}: 2 times in a row, last: connection refused")
        );
        assert_eq!(stage.fault(0), None);
    });
}

#[test]
fn a_stop_ends_the_checks_and_forgets_what_they_found() {
    run(async {
        let (listener, address) = listener().await;
        let mut stage = Stage::new(vec![check(Probe::Tcp { address }, 1)], vec![], vec![]);
        stage.begin(0);
        drop(listener);
        assert!(stage.next_fault(0).await.is_some());
        stage.checks.end(stage.resource(0));
        assert_eq!(stage.fault(0), None);
        sleep(EVERY * 5).await;
        assert!(
            !stage.changes.has_changed().unwrap(),
            "nobody asks any more"
        );
        stage.begin(0);
        assert!(stage.next_fault(0).await.is_some(), "a start begins anew");
    });
}

#[test]
fn bad_answers_in_the_grace_are_passed_over_and_not_told() {
    run(async {
        let (listener, address) = listener().await;
        drop(listener);
        let graced = HealthCheck {
            start_grace: EVERY * 20,
            ..check(Probe::Tcp { address }, 2)
        };
        let mut stage = Stage::new(vec![graced], vec![], vec![]);
        let begin = Instant::now();
        stage.begin(0);
        assert!(stage.next_fault(0).await.is_some());
        assert!(begin.elapsed() >= EVERY * 20, "{:?}", begin.elapsed());
        assert!(stage.note().await.contains("connection refused"));
    });
}

#[test]
fn what_nobody_can_know_is_no_fault() {
    run(async {
        let name = "x.service".to_owned();
        let stage = Stage::new(vec![check(Probe::Unit { name }, 1)], vec![], vec![]);
        stage.begin(0);
        sleep(EVERY * 5).await;
        assert_eq!(stage.fault(0), None, "there is no bus here");
    });
}

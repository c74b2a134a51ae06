//! What curl is told, and what its words and exit codes come to.

use super::*;
use crate::config::health::Page;
use proptest::prelude::*;

const LIMIT: Duration = Duration::from_millis(2500);

fn probe(host: &str, trust: Trust) -> HttpsProbe {
    HttpsProbe {
        trust,
        page: Page {
            host: host.to_owned(),
            path: "/$x?a=[b]".to_owned(),
            status: Vec::new(),
            text: None,
        },
    }
}

/// The finding on a check of 10.0.0.1 with a CA of its own.
fn judged(exit: &Exit, words: &str) -> Finding {
    let probe = probe("10.0.0.1", Trust::Ca("/ca.pem".to_owned()));
    judge(exit, words, "cut off", &probe, LIMIT)
}

#[test]
fn curl_is_told_everything_word_for_word() {
    let words = arguments(&probe("10.0.0.1:8443", Trust::System), LIMIT);
    assert_eq!(words[..2], [CURL, "--disable"], "it must be first");
    assert_eq!(
        words[words.len() - 2..],
        ["--url", "https://10.0.0.1:8443/$x?a=[b]"]
    );
    let text = words.join(" ");
    for part in [
        "--noproxy *",
        "--proto =https",
        "--globoff",
        "--max-time 2.500",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    for option in ["--insecure", "--cacert", "--location", "--ipv4"] {
        assert!(!text.contains(option), "{option} in {text}");
    }
    let text = |trust| arguments(&probe("localhost:1", trust), LIMIT).join(" ");
    assert!(text(Trust::Any).contains(" --insecure --ipv4 "));
    let own = text(Trust::Ca("/my ca.pem".to_owned()));
    assert!(
        own.contains(" --cacert /my ca.pem --capath /proc/sys --ipv4 "),
        "{own}"
    );
}

#[test]
fn what_is_wrong_with_the_service_is_told_in_peoples_words() {
    let problem = |text: &str| {
        format!("curl: (60) SSL certificate problem: {text}\nMore details here: https://x\n")
    };
    for (code, words, told) in [
        (0, String::new(), "cut off"),
        (18, "curl: (18) transfer closed".to_owned(), "cut off"),
        (52, "curl: (52) Empty reply from server".to_owned(), "cut off"),
        (7, "curl: (7) Failed to connect: Connection refused".to_owned(), "connection refused"),
        (
            7,
            "curl: (7) Failed to connect to 10.0.0.1 port 443 after 0 ms: Couldn't connect to server".to_owned(),
            "no connection: refused, or the host cannot be reached",
        ),
        (28, "curl: (28) Connection timed out".to_owned(), "no answer within 2.5s"),
        (
            35,
            "curl: (35) error:0A00010B:SSL routines::wrong version number".to_owned(),
            "the port does not speak TLS",
        ),
        (35, "curl: (35) no cipher".to_owned(), "the TLS handshake failed (no cipher)"),
        (35, String::new(), "the TLS handshake failed"),
        (60, problem("certificate has expired"), "the certificate has expired"),
        (60, problem("certificate is not yet valid"), "the certificate is not valid yet"),
        (
            60,
            problem("self-signed certificate"),
            "the certificate is not trusted (self-signed certificate)",
        ),
        (
            60,
            "curl: (60) server certificate verification failed. CAfile: none CRLfile: none".to_owned(),
            "the certificate is not trusted (server certificate verification failed. CAfile: none CRLfile: none)",
        ),
        (
            60,
            "curl: (60) SSL: no alternative certificate subject name matches target host name '10.0.0.1'".to_owned(),
            "the certificate is for another name than that in 10.0.0.1",
        ),
        (
            51,
            "curl: (51) SSL: certificate subject name 'a' does not match target host name 'b'".to_owned(),
            "the certificate is for another name than that in 10.0.0.1",
        ),
        (1, "curl: (1) Received HTTP/0.9 when not allowed".to_owned(), "the answer is not HTTP"),
        (56, "curl: (56) reset".to_owned(), "the connection broke (reset)"),
        (99, String::new(), "curl ended with exit code 99"),
    ] {
        assert_eq!(judged(&Exit::Code(code), &words), Finding::Bad(told.to_owned()), "{words}");
    }
    assert_eq!(
        judged(&Exit::TimedOut, ""),
        Finding::Bad("no answer within 2.5s".to_owned())
    );
}

#[test]
fn what_keeps_curl_from_asking_is_not_the_services_fault() {
    for (exit, told) in [
        (Exit::NotExecutable, "install curl"),
        (Exit::NotStarted("x".to_owned()), "not started: x"),
        (Exit::Signal(9), "killed by signal 9"),
        (Exit::Code(77), "/ca.pem cannot be used"),
        (Exit::Code(6), "the name of 10.0.0.1 cannot be looked up"),
        (Exit::Code(1), "exit code 1"),
        (Exit::Code(2), "exit code 2"),
        (Exit::Code(27), "exit code 27"),
    ] {
        let finding = judged(&exit, "");
        let Finding::Unasked(reason) = &finding else {
            panic!("{exit:?}: {finding:?}");
        };
        assert!(reason.contains(told), "{reason}");
    }
    assert_eq!(judged(&Exit::Canceled, ""), Finding::Unknown);
    let words = "curl: (1) Protocol \"https\" not supported or disabled in libcurl";
    assert!(matches!(judged(&Exit::Code(1), words), Finding::Unasked(_)));
}

proptest! {
    #[test]
    fn any_words_of_curl_make_one_short_line(code in 0..256, words in "(curl: \\([0-9]*\\) )?(\\PC|\n|\t|\u{1b})*") {
        let detail = detail(&words);
        prop_assert!(detail.chars().count() <= DETAIL_MAX && !detail.chars().any(char::is_control));
        match judged(&Exit::Code(code), &words) {
            Finding::Bad(reason) | Finding::Unasked(reason) => {
                prop_assert!(!reason.is_empty() && reason.len() < 4 * DETAIL_MAX + 200, "{reason}");
            }
            other @ (Finding::Good | Finding::Unknown) => prop_assert!(false, "{other:?}"),
        }
    }
}

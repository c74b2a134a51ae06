//! Answers as servers give them, broken ones, and any bytes at all, whole and in pieces.

use super::*;
use proptest::prelude::*;

fn page(status: &[u16], text: Option<&str>) -> Page {
    Page {
        host: "127.0.0.1".to_owned(),
        path: "/".to_owned(),
        status: status.to_vec(),
        text: text.map(str::to_owned),
    }
}

/// Reads an answer in pieces of this size, then the end of the connection.
fn read_in(size: usize, page: &Page, answer: &[u8]) -> Result<(), String> {
    let mut response = Response::new(page);
    for piece in answer.chunks(size) {
        if response.take(piece)? == Progress::Good {
            return Ok(());
        }
    }
    Err(response.end())
}

/// The same whole and byte by byte, which must make no difference.
fn read(page: &Page, answer: &str) -> Result<(), String> {
    let whole = read_in(answer.len().max(1), page, answer.as_bytes());
    assert_eq!(read_in(1, page, answer.as_bytes()), whole, "{answer:?}");
    whole
}

fn with_text(text: &str, answer: &str) -> Result<(), String> {
    read(&page(&[], Some(text)), answer)
}

#[test]
fn the_status_decides_where_no_text_is_wanted() {
    let any = page(&[], None);
    assert_eq!(read(&any, "HTTP/1.1 200 OK\r\n\r\n"), Ok(()));
    assert_eq!(
        read(&any, "HTTP/1.0 302 Found\r\nLocation: /x\r\n\r\n"),
        Ok(())
    );
    assert_eq!(read(&any, "HTTP/1.1 204\r\n\r\n"), Ok(()));
    assert_eq!(
        read(&any, "HTTP/1.1 500 Oh\r\n\r\n"),
        Err("status 500, expected 200 to 399".to_owned())
    );
    let two = page(&[401, 403], None);
    assert_eq!(read(&two, "HTTP/1.1 401 No\r\n\r\n"), Ok(()));
    assert_eq!(
        read(&two, "HTTP/1.1 200 OK\r\n\r\n"),
        Err("status 200, expected 401 or 403".to_owned())
    );
}

#[test]
fn interim_answers_are_passed_over() {
    let any = page(&[], None);
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    assert_eq!(
        read(&any, &format!("{hints}{hints}HTTP/1.1 200 OK\r\n\r\n")),
        Ok(())
    );
    let other = read(&any, &format!("{hints}HTTP/1.1 500 No\r\n\r\n"));
    assert!(other.unwrap_err().contains("status 500"));
    assert!(read(&any, "HTTP/1.1 101 Switching\r\n\r\n").is_err());
    let endless = hints.repeat(HEAD_MAX / hints.len() + 1);
    assert!(read(&any, &endless).is_err());
}

#[test]
fn a_text_is_found_however_the_body_ends() {
    let head = "HTTP/1.1 200 OK\r\n";
    assert_eq!(
        with_text("all well", &format!("{head}\r\nsays: all well.")),
        Ok(())
    );
    let length = format!("{head}content-length: 8\r\n\r\nall well");
    assert_eq!(with_text("all well", &length), Ok(()));
    let chunks = "Transfer-Encoding: gzip, Chunked\r\n\r\n4\r\nall \r\n4;x=y\r\nwell\r\n0\r\n\r\n";
    assert_eq!(with_text("all well", &format!("{head}{chunks}")), Ok(()));
}

#[test]
fn a_text_that_is_not_there_is_said_to_be_missing() {
    let head = "HTTP/1.1 200 OK\r\n";
    let missing = Err("the body does not contain \"x\\ny\"".to_owned());
    assert_eq!(with_text("x\ny", &format!("{head}\r\nx")), missing);
    let length = format!("{head}Content-Length: 2\r\n\r\nx\ny");
    assert_eq!(with_text("x\ny", &length), missing);
    // The frame of a chunk is not part of the body, and what follows the last chunk neither.
    let chunks = "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nx\ny";
    assert_eq!(with_text("x\ny", &format!("{head}{chunks}")), missing);
    assert_eq!(with_text("x\ny", "HTTP/1.1 204 No\r\n\r\nx\ny"), missing);
    let cut = format!("{head}Content-Length: 9\r\n\r\nx");
    assert!(
        with_text("xy", &cut)
            .unwrap_err()
            .contains("closed within the body")
    );
}

#[test]
fn what_is_not_http_is_told_from_silence() {
    let any = page(&[], None);
    assert!(read(&any, "").unwrap_err().contains("without an answer"));
    assert!(
        read(&any, "HTTP/1.1 2")
            .unwrap_err()
            .contains("within the head")
    );
    for other in [
        "220 mail.example.org ESMTP\r\n",
        "SSH-2.0-x\r\n",
        "HTTP/1.1 xxx\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
    ] {
        assert!(
            read(&any, other).unwrap_err().contains("not HTTP"),
            "{other}"
        );
    }
    let head = "HTTP/1.1 200 OK\r\n";
    for body in [
        "Content-Length: -1\r\n\r\n",
        "Content-Length: 99999999999999999999\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n11111111\r\n",
    ] {
        let told = with_text("x", &format!("{head}{body}"));
        assert!(told.unwrap_err().contains("not HTTP"), "{body}");
    }
}

#[test]
fn heads_and_bodies_without_end_are_given_up() {
    let any = page(&[], None);
    let fields = "X: y\r\n".repeat(FIELDS_MAX + 1);
    assert!(read(&any, &format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).is_err());
    let long = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(HEAD_MAX));
    assert!(
        read_in(4096, &any, long.as_bytes())
            .unwrap_err()
            .contains("head of more")
    );
    let body = format!("HTTP/1.1 200 OK\r\n\r\n{}", "y".repeat(BODY_MAX + 4096));
    let told = read_in(4096, &page(&[], Some("x")), body.as_bytes());
    assert!(told.unwrap_err().contains("in its first"));
}

/// Bytes that look like answers far enough to reach every part of the reader.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let heads = prop_oneof![
        Just("HTTP/1.1 200 OK\r\n\r\n"),
        Just("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n"),
        Just("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Just("HTTP/1.1 103 x\r\n\r\nHTTP/1.1 200 x\nTransfer-Encoding: chunked\n\n"),
        Just(""),
    ];
    let body = proptest::collection::vec(
        prop_oneof![
            any::<u8>(),
            proptest::sample::select(b"0123af;\r\nab".as_slice()),
        ],
        0..200,
    );
    (heads, body).prop_map(|(head, body)| [head.as_bytes(), &body].concat())
}

proptest! {
    #[test]
    fn no_bytes_panic_the_reader_and_pieces_make_no_difference(
        answer in answer(),
        size in 1_usize..50,
        text in proptest::option::of("[ab]{1,5}"),
    ) {
        let page = page(&[], text.as_deref());
        let whole = read_in(answer.len().max(1), &page, &answer);
        prop_assert_eq!(read_in(size, &page, &answer), whole);
    }

    #[test]
    fn a_search_finds_what_a_plain_comparison_finds(text in "[ab]{1,6}", body in "[ab]{0,60}") {
        let mut search = Search::new(&text);
        let found = body.bytes().any(|byte| search.take(byte));
        prop_assert_eq!(found, body.contains(&text));
    }

    #[test]
    fn a_chunked_body_is_searched_as_if_it_were_whole(
        text in "[ab]{1,4}",
        pieces in proptest::collection::vec("[ab]{1,20}", 0..10),
    ) {
        let mut answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
        for piece in &pieces {
            answer += &format!("{:x}\r\n{piece}\r\n", piece.len());
        }
        answer += "0\r\n\r\n";
        let found = read(&page(&[], Some(&text)), &answer).is_ok();
        prop_assert_eq!(found, pieces.concat().contains(&text));
    }
}

//! Asks for a page: one connection, one GET, one bounded answer. How the answer is read is `response`'s.

use super::response::{Progress, Response};
use super::tcp::{connect, words};
use crate::config::health::{HttpProbe, Page};
use std::io;
use tokio::net::TcpStream;

/// Bytes that are read at once.
const READ_SIZE: usize = 4096;

/// Asks, however long it takes: the time-out is the caller's.
///
/// # Errors
/// What was expected and what came.
pub(super) async fn ask(probe: &HttpProbe) -> Result<(), String> {
    let stream = connect(probe.address).await?;
    send(&stream, request(probe).as_bytes()).await?;
    let mut response = Response::new(&probe.page);
    let mut buffer = [0; READ_SIZE];
    loop {
        let length = receive(&stream, &mut buffer).await?;
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
            return Err(response.end());
        };
        match response.take(bytes)? {
            Progress::More => {}
            Progress::Good => return Ok(()),
        }
    }
}

/// HTTP/1.1, since some proxies refuse to answer 1.0; without what would keep the connection open.
fn request(probe: &HttpProbe) -> String {
    let Page { host, path, .. } = &probe.page;
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: ha-node/{version}\r\nAccept: */*\r\n\
         Accept-Encoding: identity\r\nConnection: close\r\n\r\n"
    )
}

async fn send(stream: &TcpStream, mut rest: &[u8]) -> Result<(), String> {
    while !rest.is_empty() {
        stream.writable().await.map_err(|error| words(&error))?;
        match stream.try_write(rest) {
            Ok(length) => rest = rest.get(length..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(words(&error)),
        }
    }
    Ok(())
}

async fn receive(stream: &TcpStream, buffer: &mut [u8]) -> Result<usize, String> {
    loop {
        stream.readable().await.map_err(|error| words(&error))?;
        match stream.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result.map_err(|error| words(&error)),
        }
    }
}

//! A TCP connection: whether one is accepted is a check by itself, and the way to ask for a page.

use std::io;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// Connects, from whatever address the routing table says.
///
/// # Errors
/// Words for people.
pub(super) async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(address).await.map_err(|e| words(&e))?;
    if has_met_itself(&stream, address) {
        return Err(io::ErrorKind::ConnectionRefused.to_string());
    }
    Ok(stream)
}

/// The kernel may choose the very port that it connects to; a socket is then connected where nobody listens.
fn has_met_itself(stream: &TcpStream, address: SocketAddr) -> bool {
    stream.local_addr().is_ok_and(|own| own == address)
}

/// An error without its number where the kind says it all.
pub(super) fn words(error: &io::Error) -> String {
    let kind = error.kind();
    let words = kind.to_string();
    if kind == io::ErrorKind::Other || words.starts_with("uncategorized") {
        return error.to_string();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpSocket;
    use tokio::runtime::Builder;

    #[test]
    fn a_socket_that_meets_itself_is_recognised() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
            let address = socket.local_addr().unwrap();
            let stream = socket.connect(address).await.unwrap();
            assert!(has_met_itself(&stream, address));
            drop(stream);
            assert_eq!(connect(address).await.unwrap_err(), "connection refused");
        });
    }
}

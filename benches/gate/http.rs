//! A client that costs little itself: HTTP/1.1 over one kept connection, as kube-scheduler has.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// One kept connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
    host: SocketAddr,
    body: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub fn open(host: SocketAddr) -> Self {
        let stream = TcpStream::connect(host).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::with_capacity(1 << 20, stream), host, body: Vec::new() }
    }

    /// Posts JSON; the answer's body.
    pub fn post(&mut self, path: &str, body: &[u8]) -> &[u8] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.host,
            body.len(),
        );
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request).unwrap();
        let length = self.read_head();
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body).unwrap();
        &self.body
    }

    fn read_head(&mut self) -> usize {
        let mut length = None;
        let mut line = String::new();
        let mut is_first = true;
        loop {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            let text = line.trim_end();
            if is_first {
                assert!(text.starts_with("HTTP/1.1 200"), "{text}");
                is_first = false;
            }
            if text.is_empty() {
                return length.expect("a Content-Length");
            }
            let (name, value) = text.split_once(':').unwrap_or((text, ""));
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok();
            }
        }
    }
}

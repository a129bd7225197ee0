//! A server of models as a process, and clients that speak HTTP to it byte by byte.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use outgrow_tensor::Tensor;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::{Value as Json, json};

use super::Place;

/// A server that ends with its test.
pub struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts one in this folder, at a port of its own.
    pub fn start(place: &Place, args: &[&str]) -> Self {
        Self::telling(place, args, Stdio::inherit())
    }

    /// Starts one whose stderr goes somewhere.
    pub fn telling(place: &Place, args: &[&str], stderr: Stdio) -> Self {
        let args = [&["serve", "--http", "127.0.0.1:0", "--json", "--quiet"], args].concat();
        let mut child = place.command(&args).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Json = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let address = said["http"].as_str().unwrap().split_once("://").unwrap().1.parse().unwrap();
        Self { child, address }
    }

    /// One more connection to it.
    pub fn client(&self) -> Client {
        Client(BufReader::new(self.connect()))
    }

    /// One more connection, encrypted.
    pub fn encrypted(&self, config: &Arc<ClientConfig>, name: &str) -> Client<Encrypted> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let client = ClientConnection::new(Arc::clone(config), name).unwrap();
        Client(BufReader::new(StreamOwned::new(client, self.connect())))
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for its end, and gives its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        let done = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection.
pub struct Client<S = TcpStream>(BufReader<S>);

/// What an encrypted connection goes over.
pub type Encrypted = StreamOwned<ClientConnection, TcpStream>;

/// An answer of HTTP.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, their names in small letters.
    pub headers: HashMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl<S: Read + Write> Client<S> {
    /// What goes to the server as it is.
    pub fn stream(&mut self) -> &mut S {
        self.0.get_mut()
    }

    /// Sends a request.
    pub fn send(&mut self, head: &str, body: &[u8]) {
        let head = format!("{head}\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        self.0.get_mut().write_all(&[head.as_bytes(), body].concat()).unwrap();
    }

    /// The next answer.
    pub fn receive(&mut self) -> Answer {
        let mut line = String::new();
        let mut next = |reader: &mut BufReader<S>| {
            line.clear();
            reader.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        let first = next(&mut self.0);
        let status =
            first.split(' ').nth(1).unwrap_or_else(|| panic!("no status: {first:?}")).parse().unwrap();
        let mut headers = HashMap::new();
        while let Some((name, value)) = next(&mut self.0).split_once(": ") {
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        Answer { status, headers, body }
    }

    /// Sends a request and takes its answer.
    pub fn ask(&mut self, head: &str, body: &[u8]) -> Answer {
        self.send(head, body);
        self.receive()
    }

    /// The status and JSON at a path.
    pub fn get(&mut self, path: &str) -> (u16, Json) {
        let answer = self.ask(&format!("GET {path} HTTP/1.1"), b"");
        (answer.status, answer.json())
    }

    /// Asks a model.
    pub fn infer(&mut self, model: &str, request: &Json) -> (u16, Json) {
        let head = format!("POST /v2/models/{model}/infer HTTP/1.1");
        let answer = self.ask(&head, request.to_string().as_bytes());
        (answer.status, answer.json())
    }
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// The elements of a tensor.
pub fn values(tensor: &Tensor) -> &[f32] {
    tensor.as_slice().unwrap()
}

/// As bits, which are the same or not.
pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// A request with one tensor.
pub fn request(name: &str, tensor: &Tensor) -> Json {
    json!({ "id": "7", "inputs": [{ "name": name, "shape": tensor.shape().dims(), "datatype": "FP32", "data": values(tensor) }] })
}

/// The one output of an answer in JSON.
pub fn output(answer: &Json) -> Vec<f32> {
    let data = answer["outputs"][0]["data"].as_array().unwrap_or_else(|| panic!("{answer}"));
    data.iter().map(|x| x.to_string().parse().unwrap()).collect()
}

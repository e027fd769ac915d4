//! A local S3 server for tests: `moto_server`, where this machine has it. It holds everything in
//! memory and ends with the process that started it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long a server may take to answer first.
const START_WITHIN: Duration = Duration::from_secs(40);

/// A server. It ends when dropped, or when the process ends.
pub struct Server {
    /// `127.0.0.1:port`.
    pub address: String,
    shell: Child,
}

/// The server that all tests of this process share; `None`, with the reason on standard error,
/// where there is none. With `ISOTICK_REQUIRE_S3=1` that is a failure.
pub fn shared() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(|| told(Server::start(&[]))).as_ref()
}

/// A server of its own that lets nobody in without credentials after so many requests.
pub fn guarded(requests: u32) -> Option<Server> {
    told(Server::start(&[("INITIAL_NO_AUTH_ACTION_COUNT", &requests.to_string())]))
}

fn told(started: Result<Server, String>) -> Option<Server> {
    match started {
        Ok(server) => Some(server),
        Err(why) => {
            let required = setting("ISOTICK_REQUIRE_S3").is_some_and(|value| value == "1");
            assert!(!required, "ISOTICK_REQUIRE_S3=1, but there is no S3 server: {why}");
            eprintln!("ignored: no local S3 server: {why}");
            None
        }
    }
}

#[allow(clippy::disallowed_methods)] // the product takes settings in `src/` only; tests have no other
fn setting(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

impl Server {
    fn start(environment: &[(&str, &str)]) -> Result<Self, String> {
        let program = setting("ISOTICK_MOTO_SERVER").unwrap_or_else(|| "moto_server".into());
        let found = Command::new(&program).arg("--help").output();
        if !found.is_ok_and(|output| output.status.success()) {
            let name = program.to_string_lossy();
            return Err(format!("{name} does not run; `pip install 'moto[server]'` brings it"));
        }
        // Free a moment ago: taken by another in between, the server ends and another is tried.
        for _ in 0..5 {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let port = free.map_err(|error| error.to_string())?.port();
            // The shell ends the server when its own input does: at the end of this process too.
            let script = "\"$0\" -H 127.0.0.1 -p \"$1\" & read -r _; kill $!; wait";
            let shell = Command::new("sh")
                .args(["-c", script])
                .arg(&program)
                .arg(port.to_string())
                .envs(environment.iter().copied())
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .map_err(|error| error.to_string())?;
            let server = Self { address: format!("127.0.0.1:{port}"), shell };
            let started = Instant::now();
            while started.elapsed() < START_WITHIN {
                if server.ask("GET", "/moto-api/", &[]).is_ok_and(|(status, _)| status == 200) {
                    return Ok(server);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Err("moto_server does not answer".to_owned())
    }

    /// Makes a bucket.
    pub fn make_bucket(&self, name: &str) {
        let (status, text) = self.ask("PUT", &format!("/{name}"), &[]).expect("it answers");
        assert_eq!(status, 200, "bucket {name}: {text}");
    }

    /// Replaces a file.
    pub fn put(&self, bucket: &str, name: &str, content: &[u8]) {
        let answer = self.ask("PUT", &format!("/{bucket}/{name}"), content);
        assert_eq!(answer.expect("it answers").0, 200, "{name}");
    }

    /// The names in a bucket, a thousand at most.
    pub fn list(&self, bucket: &str) -> Vec<String> {
        let (_, text) = self.ask("GET", &format!("/{bucket}"), &[]).expect("it answers");
        let names = text.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
        names.map(str::to_owned).collect()
    }

    /// Sends a request; the status of the answer and all of its text.
    fn ask(&self, method: &str, path: &str, content: &[u8]) -> Result<(u16, String), String> {
        let answer = || -> std::io::Result<Vec<u8>> {
            let mut stream = TcpStream::connect(&self.address)?;
            stream.set_read_timeout(Some(START_WITHIN))?;
            let address = &self.address;
            write!(
                stream,
                "{method} {path} HTTP/1.1\r\nHost: {address}\r\n\
                 Authorization: AWS4-HMAC-SHA256 Credential=a-key/20240102/us-east-1/s3/\
                 aws4_request, SignedHeaders=host, Signature=unchecked\r\n\
                 Content-Length: {}\r\n\
                 Connection: close\r\n\r\n",
                content.len()
            )?;
            stream.write_all(content)?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer)
        };
        let answer = answer().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&answer);
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| format!("no answer to {method} {path}: {text}"))?;
        Ok((status, text.into_owned()))
    }

    /// What a client has to have in its environment.
    pub fn variables(&self) -> Vec<(String, String)> {
        variables(&self.address)
    }
}

/// The same for a server at another address, or behind one.
pub fn variables(address: &str) -> Vec<(String, String)> {
    [
        ("AWS_ENDPOINT_URL", format!("http://{address}")),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "a-key".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "its-secret".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

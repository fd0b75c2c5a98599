//! A network that fails as it is told, between a gateway and a server.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::server::Server;

/// What happens to connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Net {
    /// All passes.
    Passes,
    /// New connections are closed at once, those that are there as well.
    Refuses,
    /// What is sent to the server is lost, on connections that are there and on new ones.
    LosesRequests,
    /// The server is told, and what it says is lost.
    LosesAnswers,
    /// The answer to the next request with this word in it is lost, and its connection cut. Then
    /// all passes.
    CutsAnswerTo(&'static str),
}

struct State {
    to: AtomicU16,
    net: Mutex<Net>,
    /// Connections of before the last cut are gone.
    era: AtomicU64,
    over: AtomicBool,
}

/// A proxy on loopback. One thread a direction: nothing of it runs where the tests run.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<State>,
}

impl Proxy {
    /// One that leads to `server`.
    pub(crate) fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            to: AtomicU16::new(server.port()),
            net: Mutex::new(Net::Passes),
            era: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&state);
        thread::spawn(move || accept(&listener, &accepting));
        Self { port, state }
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// From now on the network does this.
    pub(crate) fn set(&self, net: Net) {
        if net == Net::Refuses {
            self.cut();
        }
        *self.state.net.lock().unwrap() = net;
    }

    /// Whether what was to be lost was lost.
    pub(crate) fn passes(&self) -> bool {
        *self.state.net.lock().unwrap() == Net::Passes
    }

    /// Cuts every connection.
    pub(crate) fn cut(&self) {
        self.state.era.fetch_add(1, Ordering::SeqCst);
    }

    /// Leads new connections to another server, and cuts the others.
    pub(crate) fn lead_to(&self, server: &Server) {
        self.state.to.store(server.port(), Ordering::SeqCst);
        self.cut();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        self.cut();
        // The accepting thread looks up at the next connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    for client in listener.incoming().flatten() {
        if state.over.load(Ordering::SeqCst) {
            return;
        }
        let refuses = *state.net.lock().unwrap() == Net::Refuses;
        let server = TcpStream::connect(("127.0.0.1", state.to.load(Ordering::SeqCst)));
        let (false, Ok(server)) = (refuses, server) else {
            continue;
        };
        let one = Arc::new(Pair {
            era: state.era.load(Ordering::SeqCst),
            client,
            server,
            lost: AtomicBool::new(false),
            cuts: AtomicBool::new(false),
        });
        for up in [true, false] {
            let (one, state) = (Arc::clone(&one), Arc::clone(state));
            thread::spawn(move || {
                one.pump(up, &state);
                let _ = one.client.shutdown(Shutdown::Both);
                let _ = one.server.shutdown(Shutdown::Both);
            });
        }
    }
}

/// A connection on both its sides.
struct Pair {
    era: u64,
    client: TcpStream,
    server: TcpStream,
    /// Something of it was lost: nothing passes any more, as bytes behind it make no sense.
    lost: AtomicBool,
    /// The next answer is cut off.
    cuts: AtomicBool,
}

impl Pair {
    fn pump(&self, up: bool, state: &State) {
        let (mut from, mut to) = match up {
            true => (&self.client, &self.server),
            false => (&self.server, &self.client),
        };
        let _ = from.set_read_timeout(Some(Duration::from_millis(5)));
        let mut piece = vec![0; 65_536];
        loop {
            if state.era.load(Ordering::SeqCst) != self.era {
                return;
            }
            let read = match from.read(&mut piece) {
                Ok(0) => return,
                Ok(read) => read,
                Err(error) if is_late(&error) => continue,
                Err(_) => return,
            };
            if !self.passes(up, &piece[..read], state) {
                if self.cuts.load(Ordering::SeqCst) {
                    return;
                }
                continue;
            }
            if to.write_all(&piece[..read]).is_err() {
                return;
            }
        }
    }

    fn passes(&self, up: bool, piece: &[u8], state: &State) -> bool {
        let mut net = state.net.lock().unwrap();
        let loses = match &*net {
            Net::Passes | Net::Refuses => false,
            Net::LosesRequests => up,
            Net::LosesAnswers => !up,
            Net::CutsAnswerTo(word) => {
                if up
                    && piece
                        .windows(word.len())
                        .any(|some| some == word.as_bytes())
                {
                    self.cuts.store(true, Ordering::SeqCst);
                    *net = Net::Passes;
                }
                false
            }
        };
        if loses || (!up && self.cuts.load(Ordering::SeqCst)) {
            self.lost.store(true, Ordering::SeqCst);
        }
        !self.lost.load(Ordering::SeqCst)
    }
}

fn is_late(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

//! Agents of simulated nodes on loopback, and the client that reads them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use filmgate::agent::simulated::SimulatedFleet;
use filmgate::clock::Clock;
use filmgate::engine::Reading;
use filmgate::readings::client::{
    AgentEndpoint, Arrival, ClientConfig, Event, LostReason, ReadingsClient,
};
use filmgate::readings::discovery::endpoint;
use filmgate::readings::server::{Pace, Sampler, bind, router, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Far beyond what anything here takes; reached only when something is wrong.
pub const DEADLINE: Duration = Duration::from_secs(20);

pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub struct Agent {
    pub address: SocketAddr,
    pub shutdown: CancellationToken,
    pub served: JoinHandle<std::io::Result<()>>,
}

impl Agent {
    pub async fn start_at(address: SocketAddr, fleet: &SimulatedFleet, pace: Pace) -> Self {
        Self::of(address, Arc::new(fleet.clone()), pace).await
    }

    pub async fn of<S: Sampler>(address: SocketAddr, sampler: Arc<S>, pace: Pace) -> Self {
        let shutdown = CancellationToken::new();
        let listener = bind(address, false).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let router = router(sampler, pace, shutdown.clone());
        let served = tokio::spawn(serve(listener, router, shutdown.clone()));
        Self { address, shutdown, served }
    }

    pub async fn start(fleet: &SimulatedFleet) -> Self {
        let pace = Pace { interval: Duration::from_millis(20), ..Pace::default() };
        Self::start_at(loopback(), fleet, pace).await
    }

    pub fn endpoint(&self, node: &str) -> AgentEndpoint {
        endpoint(node, &format!("http://{}", self.address)).expect("a good endpoint")
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        let served = timeout(DEADLINE, self.served).await.expect("the agent ends");
        served.expect("no panic").expect("no error");
    }
}

pub struct Client {
    pub client: ReadingsClient,
    pub events: mpsc::Receiver<Event>,
}

pub fn quick() -> ClientConfig {
    ClientConfig { first_retry: Duration::from_millis(5), ..ClientConfig::default() }
}

impl Client {
    pub fn with(config: ClientConfig, clock: Clock) -> Self {
        let (sender, events) = mpsc::channel(64);
        Self { client: ReadingsClient::new(config, clock, sender).expect("a client"), events }
    }

    pub fn of(endpoint: AgentEndpoint) -> Self {
        let client = Self::with(quick(), Clock::monotonic());
        client.client.set_endpoints(vec![endpoint]);
        client
    }

    pub async fn next(&mut self) -> Event {
        self.find(Some).await
    }

    pub async fn arrival(&mut self, is_it: impl Fn(&Reading) -> bool) -> Arrival {
        let wanted = |event| match event {
            Event::Arrival(arrival) => Some(arrival).filter(|arrival| is_it(&arrival.reading)),
            _ => None,
        };
        self.find(wanted).await
    }

    pub async fn lost(&mut self) -> LostReason {
        let wanted = |event| match event {
            Event::Lost(lost) => Some(lost.why),
            _ => None,
        };
        self.find(wanted).await
    }

    /// The sampling of the next heartbeat.
    pub async fn heartbeat(&mut self) -> u64 {
        let wanted = |event| match event {
            Event::Heartbeat(heartbeat) => Some(heartbeat.sampling),
            _ => None,
        };
        self.find(wanted).await
    }

    /// The first event that `wanted` makes something of. Other events do not put the deadline off.
    async fn find<T>(&mut self, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = self.events.recv().await.expect("the client still runs");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        timeout(DEADLINE, found).await.expect("the event in time")
    }
}

/// An agent that answers every connection with `head` and `body`, then keeps it open.
pub async fn false_agent(body: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind(loopback()).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut connection, _)) = listener.accept().await {
            read_request(&mut connection).await;
            connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("a reader");
            // A reader that has enough closes while we write.
            drop(connection.write_all(&body).await);
            open.push(connection);
        }
    });
    address
}

pub async fn read_request(connection: &mut TcpStream) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let byte = connection.read_u8().await.expect("a request");
        request.push(byte);
    }
}

//! What connections are let in with: certificates, and QUIC's own limits.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::congestion::CubicConfig;
use quinn_proto::crypto::rustls::QuicServerConfig;
use quinn_proto::{EndpointConfig, MtuDiscoveryConfig, ServerConfig, TransportConfig, VarInt};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;

use super::EdgeConfig;
use super::ids::{ConnectionIds, ResetKey};
use super::io::UDP_PAYLOAD_BYTES_MAX;
use crate::certificates::{self, Certificates, ClientAuthorities};

/// What a client may have in flight on one stream before it is read.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// What one connection has under way to its client at most.
const SEND_WINDOW_BYTES: u64 = 1 << 20;
/// What is sent before the path has shown what it takes: the windows of one closing.
const INITIAL_WINDOW_BYTES: u64 = 256 << 10;
/// Tick datagrams of one connection that wait to be read.
const DATAGRAM_BYTES: usize = 1 << 20;

/// What new connections are let in with, and what open ones are held against.
#[derive(Clone)]
pub(crate) struct Admission {
    pub(super) server: Arc<ServerConfig>,
    authorities: Option<(ClientAuthorities, Arc<dyn ClientCertVerifier>)>,
}

impl Admission {
    /// A certificate that does not go with its key is an error.
    pub(super) fn new(
        config: &EdgeConfig,
        certificates: &Certificates,
    ) -> Result<Self, rustls::Error> {
        let authorities = match &certificates.clients {
            None => None,
            Some(authorities) => Some((authorities.clone(), authorities.verifier()?)),
        };
        Ok(Self { server: server_config(config, certificates)?, authorities })
    }

    /// Whether both let in the same clients by their certificates.
    pub(super) fn vouches_as(&self, other: &Self) -> bool {
        let said = |admission: &Self| {
            let authorities = admission.authorities.as_ref();
            authorities.map(|(authorities, _)| (authorities.required, authorities.roots.clone()))
        };
        match (said(self), said(other)) {
            (None, None) => true,
            (Some((a, ours)), Some((b, theirs))) => a == b && ours.roots == theirs.roots,
            _ => false,
        }
    }

    /// Whether a client that has shown this chain, its own certificate first, would be let in.
    pub(super) fn vouch(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let Some((authorities, verifier)) = &self.authorities else { return Ok(()) };
        match chain.split_first() {
            Some((own, further)) => verifier.verify_client_cert(own, further, now).map(drop),
            None if authorities.required => Err(rustls::Error::NoCertificatesPresented),
            None => Ok(()),
        }
    }
}

/// The configuration for new connections.
fn server_config(
    config: &EdgeConfig,
    certificates: &Certificates,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let tls = certificates::server_tls(certificates)?;
    let tls = QuicServerConfig::try_from(tls)
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut server = ServerConfig::with_crypto(Arc::new(tls));
    server.transport_config(Arc::new(transport(config)));
    Ok(Arc::new(server))
}

fn transport(config: &EdgeConfig) -> TransportConfig {
    let mut transport = TransportConfig::default();
    let idle = config.idle_timeout.try_into().unwrap_or(VarInt::from_u32(10_000).into());
    let mut congestion = CubicConfig::default();
    congestion.initial_window(INITIAL_WINDOW_BYTES);
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(UDP_PAYLOAD_BYTES_MAX);
    transport
        .max_concurrent_bidi_streams(config.sessions_per_connection_max.into())
        .max_concurrent_uni_streams(0u32.into())
        .datagram_receive_buffer_size(Some(DATAGRAM_BYTES))
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .receive_window(config.connection_window(0).into())
        .send_window(SEND_WINDOW_BYTES)
        .max_idle_timeout(Some(idle))
        .mtu_discovery_config(Some(mtu))
        .congestion_controller_factory(Arc::new(congestion))
        // Loopback and local networks: the default of a third of a second waits too long for the
        // first lost packet.
        .initial_rtt(Duration::from_millis(100));
    transport
}

/// The configuration of one thread's endpoint.
pub(super) fn endpoint_config(
    certificates: &Certificates,
    ids: &ConnectionIds,
    thread: u8,
) -> Arc<EndpointConfig> {
    let mut config = EndpointConfig::new(Arc::new(ResetKey::of(&certificates.key)));
    config.max_udp_payload_size(UDP_PAYLOAD_BYTES_MAX).expect("the bound is a valid datagram size");
    let ids = ids.of_thread(thread);
    config.cid_generator(move || Box::new(ids.clone()));
    Arc::new(config)
}

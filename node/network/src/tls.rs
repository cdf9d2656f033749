//! The certificate of secure WebSocket addresses, which can be replaced while the node listens.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use kith_protocol::Wall;
use libp2p::Multiaddr;
use libp2p::core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use libp2p::websocket::{self, tls};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

/// A certificate that cannot be used. What was used before stays.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The chain.
    #[error("the certificate file holds no certificates in PEM form")]
    Chain,
    /// The key.
    #[error("the key file holds no private key in PEM form (PKCS#8, PKCS#1 or SEC1)")]
    Key,
    /// Both are well formed.
    #[error("the key does not belong to the certificate: {0}")]
    Pair(String),
}

#[derive(Default)]
struct Served {
    config: Option<tls::Config>,
    expires: Option<Wall>,
}

#[derive(Default)]
struct Shared {
    served: Mutex<Served>,
    /// Raised by each change.
    version: AtomicU64,
}

/// The certificate with which a node listens on `/wss` addresses. Clones are handles of the same.
#[derive(Clone, Default)]
pub struct WssCertificate(Arc<Shared>);

impl fmt::Debug for WssCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WssCertificate")
            .field("version", &self.0.version.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

impl WssCertificate {
    /// Takes a certificate chain and its key, both in PEM form. Connections from then on are served with it. It must have
    /// been set once before the node listens.
    ///
    /// # Errors
    /// [`CertificateError`]; nothing changes then.
    pub fn set(&self, chain: &[u8], key: &[u8]) -> Result<(), CertificateError> {
        let chain: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|_| CertificateError::Chain)?;
        let expires = expiry(chain.first().ok_or(CertificateError::Chain)?);
        let chain: Vec<_> = chain.iter().map(|der| tls::Certificate::new(der.to_vec())).collect();
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::Key)?;
        // the library panics on what this does not take
        let der = key.secret_der().to_vec();
        PrivateKeyDer::try_from(der.as_slice()).map_err(|_| CertificateError::Key)?;
        let config = tls::Config::new(tls::PrivateKey::new(der), chain)
            .map_err(|error| CertificateError::Pair(error.to_string()))?;
        *self.served() = Served { config: Some(config), expires };
        self.0.version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// When it is no longer valid: the first of the chain, the node's own. `None` if none was set, or it does not say so in
    /// a way that can be read.
    #[must_use]
    pub fn expires(&self) -> Option<Wall> {
        self.served().expires
    }

    fn served(&self) -> MutexGuard<'_, Served> {
        self.0.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A transport that uses it.
    pub(crate) fn watched<T>(&self, inner: websocket::Config<T>) -> Watched<T>
    where
        T: Transport + Send + Unpin + 'static,
        T::Error: Send + 'static,
        T::Dial: Send + 'static,
        T::ListenerUpgrade: Send + 'static,
        T::Output: futures::AsyncRead + futures::AsyncWrite + Unpin + Send + 'static,
    {
        let mut watched = Watched { inner, certificate: self.clone(), version: 0 };
        watched.refresh();
        watched
    }
}

/// The end of a certificate's time.
fn expiry(certificate: &[u8]) -> Option<Wall> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    seconds.checked_mul(1_000).map(Wall)
}

/// WebSocket whose certificate is looked after.
pub(crate) struct Watched<T: Transport>
where
    T::Output: futures::AsyncRead + futures::AsyncWrite + Unpin + Send + 'static,
{
    inner: websocket::Config<T>,
    certificate: WssCertificate,
    version: u64,
}

impl<T> Watched<T>
where
    T: Transport + Send + Unpin + 'static,
    T::Error: Send + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
    T::Output: futures::AsyncRead + futures::AsyncWrite + Unpin + Send + 'static,
{
    fn refresh(&mut self) {
        let version = self.certificate.0.version.load(Ordering::Acquire);
        if version == self.version {
            return;
        }
        self.version = version;
        let config = self.certificate.served().config.clone();
        if let Some(config) = config {
            self.inner.set_tls_config(config);
        }
    }
}

impl<T> Transport for Watched<T>
where
    T: Transport + Send + Unpin + 'static,
    T::Error: Send + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
    T::Output: futures::AsyncRead + futures::AsyncWrite + Unpin + Send + 'static,
{
    type Output = <websocket::Config<T> as Transport>::Output;
    type Error = <websocket::Config<T> as Transport>::Error;
    type ListenerUpgrade = <websocket::Config<T> as Transport>::ListenerUpgrade;
    type Dial = <websocket::Config<T> as Transport>::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        self.refresh();
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        self.inner.dial(address, opts)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        // a connection that has just come in is polled for here, so it gets the new certificate
        self.refresh();
        Pin::new(&mut self.inner).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_taken_with_its_own_key_only() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (chain, key) = (made.cert.pem(), made.key_pair.serialize_pem());
        let certificate = WssCertificate::default();
        let set = |chain: &str, key: &str| certificate.set(chain.as_bytes(), key.as_bytes());
        assert_eq!(set("", &key), Err(CertificateError::Chain));
        assert_eq!(set("nonsense", &key), Err(CertificateError::Chain));
        assert_eq!(set(&chain, "nonsense"), Err(CertificateError::Key));
        assert_eq!(set(&chain, &chain), Err(CertificateError::Key));
        assert!(matches!(set(&chain, &other.key_pair.serialize_pem()), Err(CertificateError::Pair(_))));
        assert_eq!(certificate.expires(), None);
        assert_eq!(set(&chain, &key), Ok(()));
    }

    #[test]
    fn the_end_of_the_nodes_own_certificate_is_known() {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let key = rcgen::KeyPair::generate().unwrap();
        let own = params.clone().self_signed(&key).unwrap().pem();
        params.not_after = rcgen::date_time_ymd(2028, 1, 1);
        let issuer = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
        let certificate = WssCertificate::default();
        certificate.set(format!("{own}{issuer}").as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        assert_eq!(certificate.expires(), Some(Wall(1_927_843_200_000)));
        // a certificate that is refused changes nothing
        certificate.set(issuer.as_bytes(), key.serialize_pem().as_bytes()).unwrap_err();
        assert_eq!(certificate.expires(), Some(Wall(1_927_843_200_000)));
        assert_eq!(expiry(b"no certificate"), None);
    }

    type Inner = libp2p::dns::tokio::Transport<libp2p::tcp::tokio::Transport>;

    fn inner() -> websocket::Config<Inner> {
        let tcp = libp2p::tcp::tokio::Transport::default();
        websocket::Config::new(libp2p::dns::tokio::Transport::system(tcp).unwrap())
    }

    /// Whether a peer that trusts this certificate alone gets through to the listener.
    async fn trusts(pem: &str, address: &Multiaddr) -> bool {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let mut builder = tls::Config::builder();
        builder.add_trust(&tls::Certificate::new(der.to_vec())).unwrap();
        let mut transport = inner();
        transport.set_tls_config(builder.finish());
        let role = libp2p::core::Endpoint::Dialer;
        let opts = DialOpts { role, port_use: libp2p::core::transport::PortUse::New };
        transport.dial(address.clone(), opts).unwrap().await.is_ok()
    }

    #[tokio::test]
    #[allow(clippy::disallowed_methods, reason = "a test's own task")]
    async fn a_renewed_certificate_is_served_without_listening_anew() {
        let make = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (old, new) = (make(), make());
        let certificate = WssCertificate::default();
        let set = |made: &rcgen::CertifiedKey| {
            let (chain, key) = (made.cert.pem(), made.key_pair.serialize_pem());
            certificate.set(chain.as_bytes(), key.as_bytes()).unwrap();
        };
        set(&old);
        let mut listener = certificate.watched(inner());
        listener.listen_on(ListenerId::next(), "/ip4/127.0.0.1/tcp/0/wss".parse().unwrap()).unwrap();
        let event = std::future::poll_fn(|cx| Pin::new(&mut listener).poll(cx)).await;
        let TransportEvent::NewAddress { listen_addr, .. } = event else { panic!("{event:?}") };
        let port = listen_addr
            .iter()
            .find_map(|part| match part {
                libp2p::multiaddr::Protocol::Tcp(port) => Some(port),
                _ => None,
            })
            .unwrap();
        let address: Multiaddr = format!("/dns4/localhost/tcp/{port}/wss").parse().unwrap();
        let serving = tokio::spawn(async move {
            loop {
                let event = std::future::poll_fn(|cx| Pin::new(&mut listener).poll(cx)).await;
                if let TransportEvent::Incoming { upgrade, .. } = event {
                    tokio::spawn(upgrade);
                }
            }
        });
        assert!(trusts(&old.cert.pem(), &address).await);
        assert!(!trusts(&new.cert.pem(), &address).await);
        set(&new);
        assert!(trusts(&new.cert.pem(), &address).await);
        assert!(!trusts(&old.cert.pem(), &address).await);
        serving.abort();
    }
}

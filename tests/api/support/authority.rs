//! A certificate authority of the tests' own, for servers that speak TLS.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;

use super::folder;

/// Whom a service trusts that was told so in its environment.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    /// Founds it, and writes its certificate where a service can read it.
    pub fn found(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let file = folder(name).join("authority.pem");
        std::fs::write(&file, certificate.pem()).expect("the file can be written");
        Self { issuer: Issuer::new(params, key), file }
    }

    /// The variable that makes a service trust it, and nobody else.
    pub fn trusted(&self) -> (&'static str, &str) {
        ("SSL_CERT_FILE", self.file.to_str().expect("a path in UTF-8"))
    }

    /// What a server of this name needs.
    pub fn server(&self, name: &str) -> Arc<rustls::ServerConfig> {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).expect("they fit"))
    }
}

//! Which cryptography is used: aws-lc, chosen here and nowhere by accident.

/// Chooses aws-lc for token signatures and for TLS. Calling it again does nothing.
///
/// Both crates would otherwise guess their provider from the features they were compiled with, and panic on first use
/// where some other dependency turned on a second one.
pub fn install_crypto() {
    // Whoever came first is kept; the only provider this program is compiled with is aws-lc.
    let _kept = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let _kept = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    #[test]
    fn crypto_can_be_installed_twice() {
        super::install_crypto();
        super::install_crypto();
        assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    }
}

use std::{fs, path::Path};

use rcgen::{CertificateParams, KeyPair};

use super::*;

/// Writes a certificate for `localhost` that ends in `year`.
fn write(folder: &Path, year: i32) -> TlsFiles {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let key = KeyPair::generate().unwrap();
    let files = TlsFiles { cert: folder.join("tls.crt"), key: folder.join("tls.key") };
    fs::write(&files.cert, params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(&files.key, key.serialize_pem()).unwrap();
    files
}

#[test]
fn a_new_certificate_replaces_the_old_one_and_a_bad_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::new(write(folder.path(), 2090)).unwrap();
    let first = tls.config(Alpn::Http);
    assert_eq!(tls.reload().unwrap(), Reloaded::Unchanged);
    write(folder.path(), 2091);
    assert_eq!(tls.reload().unwrap(), Reloaded::Replaced);
    let second = tls.config(Alpn::Http);
    assert!(!Arc::ptr_eq(&first, &second));
    fs::write(&tls.files.key, "-----BEGIN PRIVATE KEY-----\nnonsense").unwrap();
    assert!(tls.reload().unwrap_err().to_string().contains("ends too early"));
    assert!(Arc::ptr_eq(&second, &tls.config(Alpn::Http)));
    fs::remove_file(&tls.files.cert).unwrap();
    assert!(matches!(tls.reload().unwrap_err(), IdentityError::Unreadable { setting: "cert", .. }));
    write(folder.path(), 2092);
    assert_eq!(tls.reload().unwrap(), Reloaded::Replaced);
}

#[test]
fn the_end_is_that_of_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity::read(&write(folder.path(), 2030)).unwrap();
    assert_eq!(identity.not_after.duration_since(UNIX_EPOCH).unwrap().as_secs(), 1_893_456_000);
}

/// Each message names the file, what was seen and what was expected, and none repeats a byte of a key.
#[test]
fn files_that_cannot_be_served_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let files = write(folder.path(), 2090);
    let (cert, key) = (fs::read_to_string(&files.cert).unwrap(), fs::read_to_string(&files.key).unwrap());
    let other = KeyPair::generate().unwrap().serialize_pem();
    let broken_base64 = cert.replacen("MII", "!!!", 1);
    let no_certificate = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\naGVsbG8=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let empty_key = "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n";
    for (cert_text, key_text, setting, says) in [
        ("", key.as_str(), "cert", "holds nothing; expected PEM with -----BEGIN CERTIFICATE"),
        ("hello", &key, "cert", "holds no PEM"),
        (&key, &key, "cert", "holds PRIVATE KEY; expected"),
        (&cert[..300], &key, "cert", "ends too early"),
        (&broken_base64, &key, "cert", "not base64"),
        (no_certificate, &key, "cert", "no X.509 certificate"),
        (&cert, "", "key", "holds nothing; expected PEM with -----BEGIN PRIVATE KEY"),
        (&cert, &cert, "key", "holds CERTIFICATE; expected"),
        (&cert, encrypted, "key", "holds ENCRYPTED PRIVATE KEY; expected"),
        (&cert, empty_key, "key", "a key that cannot be used"),
        (&cert, &other, "key", "is not the private key of the first certificate in"),
    ] {
        fs::write(&files.cert, cert_text).unwrap();
        fs::write(&files.key, key_text).unwrap();
        let error = Identity::read(&files).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(says) && error.setting() == setting, "{says}: {text}");
        assert!(text.contains("tls.crt") || text.contains("tls.key"), "{text}");
        assert!(!key.lines().any(|line| !line.starts_with("---") && text.contains(line)), "{text}");
    }
}

/// A Kubernetes secret is a link to a folder of that moment, and is replaced by turning the link.
#[tokio::test(start_paused = true)]
async fn a_link_that_is_turned_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let [old, new, link] = ["old", "new", "data"].map(|name| folder.path().join(name));
    fs::create_dir(&old).unwrap();
    fs::create_dir(&new).unwrap();
    write(&new, 2091);
    write(&old, 2090);
    std::os::unix::fs::symlink(&old, &link).unwrap();
    let files = TlsFiles { cert: link.join("tls.crt"), key: link.join("tls.key") };
    let tls = Arc::new(Tls::new(files).unwrap());
    let (first, cancel) = (tls.config(Alpn::Http), CancellationToken::new());
    let mut watching = tokio::task::JoinSet::new();
    watching.spawn(Arc::clone(&tls).watch(Duration::from_secs(5), cancel.clone()));
    std::os::unix::fs::symlink(&new, folder.path().join("next")).unwrap();
    fs::rename(folder.path().join("next"), &link).unwrap();
    for _ in 0..1_000 {
        if !Arc::ptr_eq(&first, &tls.config(Alpn::Http)) {
            cancel.cancel();
            watching.join_next().await.unwrap().unwrap();
            return;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    panic!("the new certificate was not seen");
}

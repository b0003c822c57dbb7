//! The development key: a server on loopback with no key configured makes one, and the command line of the same user finds it.
//!
//! It is a file that only its user can read, one for each port, in `$XDG_RUNTIME_DIR/tickwire` or, where there is none, in a
//! directory of that user below the system's for temporary files. A restart finds the file and goes on with the same key, so that
//! tokens and publishers live on. No restart finds a port that the system chose: such a file names its process in a third line, and is
//! removed when that process ends or, if it could not do so itself, by the next server of the user.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Uri;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::secret::Secret;
use super::settings::{ApiKeyConfig, AuthConfig, PublishMode, Scope};
use super::{Config, JwtConfig};

/// What a loopback server and its command line share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevKey {
    /// An API key with all scopes.
    pub api_key: Secret,
    /// The secret of client tokens.
    pub token_secret: Secret,
}

/// A port, and whether the system chose it: then no later server will have it again on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevPort {
    /// The port.
    pub port: u16,
    /// Whether it is the system's choice.
    pub chosen: bool,
}

/// What the third line of a file begins with, before the number of a process.
const PROCESS: &str = "process ";

/// The file is two or three short lines.
const FILE_BYTES_MAX: u64 = 4096;

impl DevKey {
    /// Whether a server with this configuration makes one: it is reachable from this machine only, and nobody could publish.
    pub fn is_wanted(config: &Config) -> bool {
        let listen = &config.listen;
        let local = [listen.http, listen.grpc, listen.admin].iter().all(|address| address.ip().is_loopback());
        local && config.auth.keys.is_empty() && config.auth.publish == PublishMode::Key
    }

    /// Finds or makes the key of a server that listens on these ports, the first one being its main one.
    ///
    /// # Errors
    ///
    /// The directory or a file cannot be written, or belongs to another user.
    pub fn create(ports: &[DevPort]) -> io::Result<Self> {
        let directory = directory();
        let key = Self::create_in(&directory, ports)?;
        sweep_in(&directory);
        Ok(key)
    }

    /// Removes what earlier servers left for these ports: this one has keys of its own.
    ///
    /// # Errors
    ///
    /// A file is there and cannot be removed.
    pub fn forget(ports: &[u16]) -> io::Result<()> {
        Self::forget_in(&directory(), ports)
    }

    /// The key of the server at a URL, if that is on this machine and made one.
    ///
    /// # Errors
    ///
    /// There is a file that cannot be read, or that another user could have written.
    pub fn find(url: &str) -> io::Result<Option<Self>> {
        Self::find_in(&directory(), url)
    }

    /// Where the key of the server on a port is, or would be.
    pub fn path(port: u16) -> PathBuf {
        path_of(&directory(), port)
    }

    /// Lets a server accept it: the API key in any case, the token secret unless one is configured.
    pub fn allow(&self, auth: &mut AuthConfig) {
        let scopes = vec![Scope::Publish, Scope::Admin];
        auth.keys.push(ApiKeyConfig {
            name: "development".to_owned(),
            secret: self.api_key.clone(),
            scopes,
            expires: None,
        });
        self.sign_with(&mut auth.jwt);
    }

    /// Puts the token secret where tokens are minted and verified, unless one is configured.
    pub fn sign_with(&self, jwt: &mut JwtConfig) {
        jwt.hs256_secret.get_or_insert_with(|| self.token_secret.clone());
    }

    fn create_in(directory: &Path, ports: &[DevPort]) -> io::Result<Self> {
        own_directory(directory)?;
        let existing = match ports.first() {
            Some(DevPort { port, .. }) => Self::read(&path_of(directory, *port))?,
            None => None,
        };
        let key = match existing {
            Some(key) => key,
            None => Self { api_key: random("dev_")?, token_secret: random("")? },
        };
        for port in ports {
            key.write(directory, *port)?;
        }
        Ok(key)
    }

    fn forget_in(directory: &Path, ports: &[u16]) -> io::Result<()> {
        for port in ports {
            match fs::remove_file(path_of(directory, *port)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn find_in(directory: &Path, url: &str) -> io::Result<Option<Self>> {
        match loopback_port(url) {
            Some(port) => Self::read(&path_of(directory, port)),
            None => Ok(None),
        }
    }

    fn read(path: &Path) -> io::Result<Option<Self>> {
        let Some(text) = read_own(path)? else { return Ok(None) };
        let mut lines = text.lines().map(Secret::new);
        match (lines.next(), lines.next()) {
            (Some(api_key), Some(token_secret)) if api_key.len() >= 32 && token_secret.len() >= 32 => {
                Ok(Some(Self { api_key, token_secret }))
            }
            _ => Ok(None),
        }
    }

    /// Written beside and renamed, so that a reader never sees half of it.
    fn write(&self, directory: &Path, DevPort { port, chosen }: DevPort) -> io::Result<()> {
        let scratch = directory.join(format!("dev-{port}.{}.tmp", std::process::id()));
        let _ = fs::remove_file(&scratch);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&scratch)?;
        for secret in [&self.api_key, &self.token_secret] {
            file.write_all(secret.expose())?;
            file.write_all(b"\n")?;
        }
        if chosen {
            writeln!(file, "{PROCESS}{}", std::process::id())?;
        }
        drop(file);
        fs::rename(&scratch, path_of(directory, port))
    }
}

/// A file that only this user could have written.
fn read_own(path: &Path) -> io::Result<Option<String>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    // What is checked is the opened file, so that nobody can put another one in its place in between.
    let meta = file.metadata()?;
    if meta.uid() != own_uid() || meta.mode() & 0o077 != 0 || !meta.is_file() || meta.len() > FILE_BYTES_MAX {
        return Err(foreign(path, "is not a file that only this user can read and write"));
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Removes the files of processes that have ended without doing so. What cannot be looked at is left alone.
fn sweep_in(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_key = name.to_str().is_some_and(|name| name.starts_with("dev-") && name.ends_with(".key"));
        if !is_key {
            continue;
        }
        let Ok(Some(text)) = read_own(&entry.path()) else { continue };
        let process = text.lines().nth(2).and_then(|line| line.strip_prefix(PROCESS)?.parse().ok());
        let process = process.and_then(rustix::process::Pid::from_raw);
        if process.is_some_and(|process| rustix::process::test_kill_process(process) == Err(rustix::io::Errno::SRCH)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn directory() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    match runtime.filter(|path| path.is_absolute() && path.is_dir()) {
        Some(path) => path.join("tickwire"),
        None => std::env::temp_dir().join(format!("tickwire-{}", own_uid())),
    }
}

fn path_of(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!("dev-{port}.key"))
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Makes the directory, or checks the one that is there: in a shared place anybody may have made it first.
fn own_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            let words = format!("cannot make the directory {}: {error}; set XDG_RUNTIME_DIR", path.display());
            return Err(io::Error::new(error.kind(), words));
        }
        _ => {}
    }
    let meta = fs::symlink_metadata(path)?;
    if meta.is_dir() && meta.uid() == own_uid() && meta.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(foreign(path, "is not a directory that only this user can use; remove it, or set XDG_RUNTIME_DIR"))
}

fn foreign(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, format!("{} {why}", path.display()))
}

fn random(prefix: &str) -> io::Result<Secret> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(Secret::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))))
}

/// The port of a URL (or of a bare `host:port`) whose host is this machine.
fn loopback_port(url: &str) -> Option<u16> {
    let uri: Uri = if url.contains("://") { url.parse().ok()? } else { format!("http://{url}").parse().ok()? };
    let host = uri.host()?.trim_matches(['[', ']']);
    let is_loopback =
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    let default_port = match uri.scheme_str() {
        Some("https" | "wss") => 443,
        _ => 80,
    };
    is_loopback.then(|| uri.port_u16().unwrap_or(default_port))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn fixed(ports: &[u16]) -> Vec<DevPort> {
        ports.iter().map(|port| DevPort { port: *port, chosen: false }).collect()
    }

    #[test]
    fn files_of_chosen_ports_go_with_their_process() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("tickwire");
        let ports = [DevPort { port: 4000, chosen: false }, DevPort { port: 50000, chosen: true }];
        let key = DevKey::create_in(&directory, &ports).unwrap();
        let ended = std::process::Command::new("true").spawn().unwrap();
        let id = ended.id();
        ended.wait_with_output().unwrap();
        let file = directory.join("dev-50001.key");
        fs::write(&file, format!("{}\n{}\n{PROCESS}{id}\n", "k".repeat(40), "t".repeat(40))).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(directory.join("dev-50002.key"), "garbage").unwrap();
        sweep_in(&directory);
        let found = |port: u16| DevKey::find_in(&directory, &format!("localhost:{port}")).unwrap_or_default();
        assert_eq!([4000, 50000, 50001].map(|port| found(port) == Some(key.clone())), [true, true, false]);
        assert!(!file.exists() && directory.join("dev-50002.key").exists());
    }

    #[test]
    fn it_is_found_by_port_and_outlives_a_restart() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("tickwire");
        let key = DevKey::create_in(&directory, &fixed(&[4000, 4001])).unwrap();
        assert_eq!(DevKey::create_in(&directory, &fixed(&[4000, 4040])).unwrap(), key);
        assert_ne!(DevKey::create_in(&directory, &fixed(&[5000])).unwrap(), key);
        for url in ["http://127.0.0.1:4000", "ws://localhost:4001/socket", "[::1]:4040", "localhost:4000"] {
            assert_eq!(DevKey::find_in(&directory, url).unwrap(), Some(key.clone()), "{url}");
        }
        for url in
            ["http://127.0.0.1:4002", "http://10.0.0.1:4000", "http://example:4000", "http://localhost", "", "::"]
        {
            assert_eq!(DevKey::find_in(&directory, url).unwrap(), None, "{url}");
        }
        DevKey::forget_in(&directory, &[4000, 4999]).unwrap();
        assert_eq!(DevKey::find_in(&directory, "http://localhost:4000").unwrap(), None);
        assert!(!format!("{key:?}").contains("dev_"));
    }

    #[test]
    fn only_its_user_can_read_it() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("tickwire");
        DevKey::create_in(&directory, &fixed(&[4000])).unwrap();
        let file = directory.join("dev-4000.key");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&file)), (0o700, 0o600));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);

        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let refused = DevKey::find_in(&directory, "localhost:4000").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        let refused = DevKey::create_in(&directory, &fixed(&[4000])).unwrap_err();
        assert!(refused.to_string().contains("only this user"), "{refused}");
    }

    #[test]
    fn a_place_that_cannot_hold_it_is_named() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("nosuch").join("tickwire");
        let error = DevKey::create_in(&directory, &fixed(&[4000])).unwrap_err().to_string();
        assert!(error.contains(&directory.display().to_string()) && error.contains("XDG_RUNTIME_DIR"), "{error}");
    }

    #[test]
    fn a_broken_file_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("tickwire");
        let key = DevKey::create_in(&directory, &fixed(&[4000])).unwrap();
        fs::write(directory.join("dev-4000.key"), "short\n").unwrap();
        assert_eq!(DevKey::find_in(&directory, "localhost:4000").unwrap(), None);
        assert_ne!(DevKey::create_in(&directory, &fixed(&[4000])).unwrap(), key);
    }

    #[test]
    fn a_server_makes_one_only_for_its_own_machine_and_without_keys() {
        let mut config = Config::default();
        assert!(DevKey::is_wanted(&config));
        config.auth.jwt.hs256_secret = Some(Secret::new("configured"));
        assert!(DevKey::is_wanted(&config));
        let key = DevKey { api_key: Secret::new("k"), token_secret: Secret::new("t") };
        key.allow(&mut config.auth);
        assert_eq!(config.auth.jwt.hs256_secret, Some(Secret::new("configured")));
        assert_eq!(config.auth.keys[0].scopes, [Scope::Publish, Scope::Admin]);
        assert!(!DevKey::is_wanted(&config));
        let mut config = Config::default();
        config.listen.grpc.set_ip([0, 0, 0, 0].into());
        assert!(!DevKey::is_wanted(&config));
    }
}

//! What the operating system allows a process.

/// Raises the number of files that may be open as far as this user may. Each shared file takes one and each peer of
/// the demo about six, where many systems begin with 1,024 or less.
#[cfg(unix)]
pub(crate) fn raise() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::debug!(%error, ?current, "the limit on open files stays as it is");
    }
}

/// Here nothing limits it.
#[cfg(not(unix))]
pub(crate) fn raise() {}

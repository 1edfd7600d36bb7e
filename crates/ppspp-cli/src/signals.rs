//! Ctrl-C and SIGTERM.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::exit::{Exit, Outcome, Stop};

/// Set once the user wants the command to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens for Ctrl-C and SIGTERM from now on. The first asks for an orderly end; one that follows later ends the
    /// process.
    pub(crate) fn install() -> Outcome<Self> {
        let interrupt = Self::default();
        listen(&interrupt.0).map_err(|error| Stop::system("cannot listen for Ctrl-C", &error))?;
        Ok(interrupt)
    }

    /// Whether the command is to end.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The flag itself, for whoever polls it deep inside.
    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.0
    }
}

/// Whoever passes signals on may have the same one sent twice, as `timeout` does: to the process, and to its group.
#[cfg(unix)]
fn listen(asked: &Arc<AtomicBool>) -> std::io::Result<()> {
    use std::thread;
    use std::time::{Duration, Instant};

    use signal_hook::consts::TERM_SIGNALS;
    use signal_hook::iterator::Signals;

    /// What comes within this time of the first is no impatience.
    const SAME: Duration = Duration::from_millis(500);

    let mut signals = Signals::new(TERM_SIGNALS)?;
    let asked = Arc::clone(asked);
    let listener = thread::Builder::new().name("ppspp-signals".into());
    listener.spawn(move || {
        let mut first = None;
        for _ in signals.forever() {
            asked.store(true, Ordering::Relaxed);
            if first.get_or_insert_with(Instant::now).elapsed() > SAME {
                signal_hook::low_level::exit(Exit::Interrupted.code().into());
            }
        }
    })?;
    Ok(())
}

#[cfg(not(unix))]
fn listen(asked: &Arc<AtomicBool>) -> std::io::Result<()> {
    for signal in signal_hook::consts::TERM_SIGNALS {
        // The order matters: the shutdown looks at what the signals before this one left.
        let code = Exit::Interrupted.code().into();
        signal_hook::flag::register_conditional_shutdown(*signal, code, Arc::clone(asked))
            .and_then(|_| signal_hook::flag::register(*signal, Arc::clone(asked)))?;
    }
    Ok(())
}

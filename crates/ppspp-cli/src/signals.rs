//! Ctrl-C and SIGTERM.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use signal_hook::consts::TERM_SIGNALS;
use signal_hook::flag;

use crate::exit::{Exit, OrExit as _, Outcome};

/// Set once the user wants the command to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens for Ctrl-C and SIGTERM from now on. The first asks for an orderly end; the second ends the process.
    pub(crate) fn install() -> Outcome<Self> {
        let interrupt = Self::default();
        for signal in TERM_SIGNALS {
            // The order matters: the shutdown looks at what the signals before this one left.
            flag::register_conditional_shutdown(*signal, Exit::Interrupted.code().into(), Arc::clone(&interrupt.0))
                .and_then(|_| flag::register(*signal, Arc::clone(&interrupt.0)))
                .context("cannot listen for Ctrl-C")
                .or_exit(Exit::Failed)?;
        }
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

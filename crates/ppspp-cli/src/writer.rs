//! Writing that a reader who has paused holds up only until the user wants the command to end.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use crate::node::TURN;
use crate::output::complain;
use crate::signals::Interrupt;

/// How long a reader may take once the user wants the command to end.
const GRACE: Duration = Duration::from_millis(500);

/// Has a thread write, and waits for it. After an interrupt it waits briefly, and what is not written then is lost.
///
/// The thread is not waited for at the end of the command.
#[derive(Debug)]
pub(crate) struct Writer {
    interrupt: Interrupt,
    bytes: SyncSender<Vec<u8>>,
    written: Receiver<io::Result<()>>,
    /// Whether the thread was given something and has not answered.
    busy: bool,
    /// How long it may still take after an interrupt.
    grace: Duration,
}

impl Writer {
    /// A writer to `to`, which waits until `interrupt`.
    pub(crate) fn start(mut to: impl Write + Send + 'static, interrupt: Interrupt) -> io::Result<Self> {
        let (bytes, given) = sync_channel::<Vec<u8>>(1);
        let (answer, written) = sync_channel(1);
        thread::Builder::new().name("ppspp-output".into()).spawn(move || {
            for bytes in given {
                if answer.send(to.write_all(&bytes).and_then(|()| to.flush())).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { interrupt, bytes, written, busy: false, grace: GRACE })
    }

    /// Waits until the thread has nothing to do; `false` if it is not waited for any more.
    fn settle(&mut self) -> io::Result<bool> {
        while self.busy {
            let ending = self.interrupt.is_set();
            match self.written.recv_timeout(if ending { self.grace } else { TURN }) {
                Ok(result) => {
                    self.busy = false;
                    result?;
                }
                Err(RecvTimeoutError::Timeout) if ending => {
                    self.grace = Duration::ZERO;
                    return Ok(false);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
            }
        }
        Ok(true)
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.settle()? {
            self.bytes.send(bytes.to_vec()).map_err(|_| gone())?;
            self.busy = true;
            self.settle()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread that writes has ended")
}

/// [`complain`] at the end of an interrupted command: whoever reads standard error may have paused.
pub(crate) fn complain_briefly(sentence: impl Display + Send + 'static) {
    let (done, wait) = sync_channel(1);
    let spawned = thread::Builder::new().name("ppspp-output".into()).spawn(move || {
        complain(sentence);
        let _ = done.send(());
    });
    if spawned.is_ok() {
        // Told or not, the command ends.
        let _ = wait.recv_timeout(GRACE);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Writes once it is allowed to.
    struct Slow {
        allowed: Receiver<()>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.allowed.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.written.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Writer, Interrupt, Sender<()>, Receiver<Vec<u8>>) {
        let (interrupt, (allow, allowed), (to, written)) = (Interrupt::default(), channel(), channel());
        (Writer::start(Slow { allowed, written: to }, interrupt.clone()).unwrap(), interrupt, allow, written)
    }

    #[test]
    fn a_reader_that_has_paused_is_waited_for() {
        let (mut writer, _, allow, written) = slow();
        let reader = thread::spawn(move || {
            thread::sleep(TURN * 3);
            allow.send(()).unwrap();
            allow
        });
        writer.write_all(b"one").unwrap();
        assert_eq!(written.try_recv().unwrap(), b"one");
        // One that has gone is told.
        drop(reader.join().unwrap());
        assert_eq!(writer.write_all(b"two").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn after_an_interrupt_nobody_is_waited_for_long() {
        let (mut writer, interrupt, allow, written) = slow();
        interrupt.flag().store(true, Ordering::Relaxed);
        for line in [&b"one"[..], b"lost", b"lost"] {
            writer.write_all(line).unwrap();
        }
        // What the reader takes in time it gets.
        allow.send(()).unwrap();
        assert_eq!(written.recv().unwrap(), b"one");
        allow.send(()).unwrap();
        while written.try_recv().is_err() {
            writer.write_all(b"two").unwrap();
        }
    }
}

//! With which code a command ends, as the contract says.

use vmint::ErrorKind;
use vmint::protocol::ExitStatus;

/// vmint itself failed, under a command whose own exit codes are 0 to 255.
pub const VMINT_FAILED: u8 = 125;

/// Which exit codes a command has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    /// Those of a command in a machine.
    Command,
    /// vmint's.
    Own,
}

/// What the standard output of a command carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdout {
    /// Results.
    Results,
    /// Something else: what a command in a machine prints, or bytes that were asked for.
    Raw,
}

/// The exit code of a failure.
pub fn exit_code(kind: ErrorKind, codes: Codes) -> u8 {
    match (codes, kind) {
        (Codes::Own, _) | (Codes::Command, ErrorKind::Interrupted) => kind.exit_code(),
        (Codes::Command, ErrorKind::CommandNotExecutable) => 126,
        (Codes::Command, ErrorKind::CommandNotFound) => 127,
        (Codes::Command, _) => VMINT_FAILED,
    }
}

/// The exit code of a command in a machine.
pub fn status_code(status: ExitStatus) -> u8 {
    match status {
        ExitStatus::Code(code) => code,
        ExitStatus::Signal(n) => signal_code(n),
        ExitStatus::TimedOut => 124,
    }
}

/// As a shell gives for a process that a signal has killed.
pub fn signal_code(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        for (kind, own, command) in [
            (ErrorKind::Usage, 2, 125),
            (ErrorKind::NotFound, 3, 125),
            (ErrorKind::Refused, 4, 125),
            (ErrorKind::TimedOut, 5, 125),
            (ErrorKind::MachineLost, 1, 125),
            (ErrorKind::Internal, 1, 125),
            (ErrorKind::CommandNotExecutable, 1, 126),
            (ErrorKind::CommandNotFound, 1, 127),
            (ErrorKind::Interrupted, 130, 130),
        ] {
            assert_eq!(exit_code(kind, Codes::Own), own, "{kind}");
            assert_eq!(exit_code(kind, Codes::Command), command, "{kind}");
        }
    }

    #[test]
    fn a_command_s_end_is_told_as_a_shell_tells_it() {
        assert_eq!(status_code(ExitStatus::Code(0)), 0);
        assert_eq!(status_code(ExitStatus::Code(255)), 255);
        assert_eq!(status_code(ExitStatus::Signal(9)), 137);
        assert_eq!(status_code(ExitStatus::TimedOut), 124);
    }
}

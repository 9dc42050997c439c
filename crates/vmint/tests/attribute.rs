//! Tests with the attribute `#[vmint::test]`, as a user writes them. They are run by `tests/tests/rust_api.rs`, under
//! `cargo test` and nextest, in a home of its own; by itself this file tests nothing.

use std::io::Write;
use vmint::{AsyncVm, Command, Vm};

/// Leaves its mark on memory, disk and processes, and must see no other test's.
fn mark(vm: &Vm, name: &str) -> Result<(), vmint::Fault> {
    let script = format!(
        "test ! -e /root/mark && test ! -e /dev/shm/mark && ! pidof sleep > /dev/null && echo {name} > /root/mark && \
         echo {name} > /dev/shm/mark && (sleep 1000 > /dev/null 2>&1 &) && echo fresh"
    );
    assert_eq!(vm.sh(&script)?, "fresh\n");
    // The one who runs these tests reads it.
    println!("MACHINE {}@{} {name}", vm.machine(), vm.generation());
    Ok(())
}

macro_rules! marks {
    ($($name:ident)*) => {$(
        #[vmint::test(image = "tiny", memory = "128M", timeout = "120s")]
        #[ignore = "needs a home of its own: tests/tests/rust_api.rs"]
        fn $name(vm: Vm) -> Result<(), vmint::Fault> {
            mark(&vm, stringify!($name))
        }
    )*};
}

mod passing {
    use super::*;

    marks! { one two three four five six }

    #[vmint::test(image = "tiny", memory = "128M")]
    #[ignore = "needs a home of its own: tests/tests/rust_api.rs"]
    async fn awaits(vm: AsyncVm) {
        let (one, two) = tokio::join!(vm.sh("echo one"), vm.sh("echo two"));
        assert_eq!(
            (one.unwrap(), two.unwrap()),
            ("one\n".into(), "two\n".into())
        );
        let blocking = vm.output(Command::new(["false"])).await.unwrap();
        assert_eq!(blocking.status, vmint::protocol::ExitStatus::Code(1));
    }

    /// A machine that blocks works in a runtime, too.
    #[vmint::test(image = "tiny", memory = "128M")]
    #[ignore = "needs a home of its own: tests/tests/rust_api.rs"]
    async fn blocks(vm: Vm) -> Result<(), Box<dyn std::error::Error>> {
        assert_eq!(vm.sh("echo here")?, "here\n");
        let generation = vm.generation();
        vm.sh("touch /root/mine")?;
        assert!(vm.reset()? > generation);
        assert_eq!(vm.sh("ls /root")?, "");
        Ok(())
    }

    #[vmint::test(image = "tiny", memory = "128M")]
    #[ignore = "needs a home of its own: tests/tests/rust_api.rs"]
    #[should_panic(expected = "as expected")]
    fn panics_as_it_should(vm: Vm) {
        assert_eq!(vm.sh("echo no").unwrap(), "yes\n", "as expected");
    }
}

mod failing {
    use super::*;

    #[vmint::test(image = "tiny", memory = "128M")]
    #[ignore = "needs a home of its own: tests/tests/rust_api.rs"]
    fn panics(vm: Vm) {
        vm.sh("echo a word on the console > /dev/console").unwrap();
        panic!("on purpose");
    }

    #[vmint::test(image = "tiny", memory = "128M")]
    #[ignore = "needs a home of its own: tests/tests/rust_api.rs"]
    fn returns_an_error(vm: Vm) -> Result<(), vmint::Fault> {
        vm.sh("echo said; echo complained >&2; exit 3").map(drop)
    }

    #[vmint::test(image = "tiny", memory = "128M", timeout = "2s")]
    #[ignore = "needs a home of its own: tests/tests/rust_api.rs"]
    fn takes_too_long(vm: Vm) -> Result<(), vmint::Fault> {
        vm.sh("sleep 600").map(drop)
    }

    #[vmint::test(image = "tiny", memory = "128M", timeout = "2s")]
    #[ignore = "needs a home of its own: tests/tests/rust_api.rs"]
    async fn awaits_too_long(_vm: AsyncVm) {
        std::future::pending::<()>().await;
    }

    #[vmint::test(image = "no-such-image", memory = "128M")]
    #[ignore = "needs a home of its own: tests/tests/rust_api.rs"]
    fn has_no_machine(_vm: Vm) {
        println!("IT RAN");
    }

    /// Killed while it has its machine.
    #[vmint::test(image = "tiny", memory = "128M")]
    #[ignore = "needs a home of its own: tests/tests/rust_api.rs"]
    fn is_killed(vm: Vm) {
        println!("KILLED {}", vm.id());
        std::io::stdout().flush().unwrap();
        let own = std::process::id().to_string();
        let killed = std::process::Command::new("kill")
            .args(["-9", &own])
            .status();
        unreachable!("{killed:?}");
    }
}

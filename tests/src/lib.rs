//! Black-box tests on real machines: they call the `vmint` program as a user does, and look at what it leaves on the
//! host from outside.
//!
//! * [`home`]: a home of its own for every test. When it goes, everything in it is stopped, and whatever then is left
//!   fails the test.
//! * [`seed`]: what all homes begin with (kernel, images, templates), made once and linked from then on.
//! * [`call`]: one call of `vmint`, with a deadline.
//! * [`processes`]: what a home's machines are on the host. [`wait`]: waiting for a condition. [`terminal`]: a
//!   terminal that can die.
//! * [`project`]: a folder with files and a git repository, and workflows that are run in it.
//! * [`bytes`]: what is sent, and known again.
//! * [`netns`]: a host of its own, and its neighbour. [`names`]: a name server with a script, and servers to be found by it.
//! * [`fixture`]: what users bring along, and what befalls them.
//!
//! The program under test is `VMINT_TEST_BINARY`, else `vmint` in the target directory that the test lies in.

pub mod bytes;
pub mod call;
pub mod fixture;
pub mod home;
pub mod names;
pub mod netns;
pub mod processes;
pub mod project;
pub mod schema;
pub mod seed;
pub mod terminal;
pub mod wait;

pub use call::{Call, Outcome, Started};
pub use home::Home;
pub use processes::Process;
pub use project::{Project, Ran, Record};
pub use terminal::Terminal;
pub use wait::{patient, until};

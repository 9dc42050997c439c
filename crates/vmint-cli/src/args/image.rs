//! Images, templates and snapshots.

use super::machine::{Hardware, Held};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use vmint::image::{Base, CopyIn, ImageName, ImportSource};
use vmint::{ByteSize, Name};

/// Take and manage snapshots of running machines
#[derive(Clone, Debug, Subcommand)]
pub enum Snapshot {
    /// Save memory and disk of a running machine; the machine keeps running
    Create {
        /// Machine: NAME, id, or NAME@GENERATION
        name: String,
        /// Name of the new snapshot
        snapshot: Name,
        #[command(flatten)]
        held: Held,
    },
    /// List snapshots
    Ls {
        /// Machine whose snapshots to list [default: all]
        name: Option<Name>,
    },
    /// Remove snapshots; machines that came from them stay, started or not
    Rm {
        /// Snapshots
        #[arg(required = true, value_name = "SNAPSHOT")]
        snapshots: Vec<Name>,
    },
}

/// Bring a machine back to a snapshot
///
/// Memory and disk are the snapshot's; later changes are lost. It keeps its machine id, MAC, SSH host key and
/// ports. `vmint reset` still goes to where it first came from. With --quiet only the machine's new generation is printed.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  vmint snapshot create box clean
  vmint restore box clean")]
pub struct Restore {
    /// Machine: NAME, id, or NAME@GENERATION
    pub name: String,
    /// Snapshot
    pub snapshot: Name,
    #[command(flatten)]
    pub held: Held,
}

/// Start machines from a running machine or from a snapshot
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  vmint fork box copy               copy continues where box is now
  vmint fork clean worker --count 4 worker-1 to worker-4, each from the snapshot clean")]
pub struct Fork {
    /// Machine (NAME, id, or NAME@GENERATION) or snapshot
    #[arg(value_name = "NAME|SNAPSHOT")]
    pub source: String,
    /// Name of the new machine; with --count, NEW-1, NEW-2 and so on
    #[arg(value_name = "NEW")]
    pub new: Name,
    /// Number of machines
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub count: u32,
    #[command(flatten)]
    pub held: Held,
}

/// Build, import and list images
#[derive(Clone, Debug, Subcommand)]
pub enum Image {
    Build(Box<Build>),
    Import(Box<Import>),
    /// List images
    Ls,
    /// Show everything about an image
    Inspect {
        /// Image
        name: String,
    },
    /// Remove names of images; `vmint image prune` deletes what nothing needs any more
    ///
    /// An image that a pool uses stays: remove the pool first. Machines, snapshots and templates keep what they need.
    /// Example: vmint image rm web
    Rm {
        /// Images
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Delete images without a name that no machine, snapshot or template needs
    Prune(DryRun),
}

/// Whether to do it.
#[derive(Clone, Copy, Debug, Args)]
pub struct DryRun {
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Where an image's kernel comes from.
#[derive(Clone, Debug, Default, Args)]
pub struct Kernel {
    /// Kernel instead of the distribution's (a bzImage)
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Folder with the kernel's modules, as in /lib/modules/VERSION; needed unless all drivers are built in
    #[arg(long, value_name = "DIR", requires = "kernel")]
    pub modules: Option<PathBuf>,
}

/// Build an image
///
/// The commands of --run are executed in the booted guest, as root and with a network; if one fails, no image is made.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  vmint image build web --from debian:12 --package nginx --run 'systemctl enable nginx'
  vmint image build app --from debian:13 --copy ./app:/opt/ --size 8G")]
pub struct Build {
    /// Name of the new image
    pub name: ImageName,
    /// Base: tiny, debian:12 or debian:13 [default: tiny]
    #[arg(long, value_name = "BASE")]
    pub from: Option<Base>,
    /// Package to install
    #[arg(long = "package", value_name = "P")]
    pub packages: Vec<String>,
    /// Shell command to run in the guest
    #[arg(long, value_name = "CMD")]
    pub run: Vec<String>,
    /// File or folder of this host to put into the image
    #[arg(long, value_name = "SRC:DST")]
    pub copy: Vec<CopyIn>,
    /// Size of the disk
    #[arg(long)]
    pub size: Option<ByteSize>,
    #[command(flatten)]
    pub kernel: Kernel,
}

/// Import a root filesystem
///
/// From a tar, from a folder or an archive in OCI's layout, or from a registry. The same source gives the same image, whenever it is
/// imported. An OCI image's user, environment, command and working directory are those of its machines' commands; the working
/// directory is made if no layer has it, and is / if the image names none. In machines of a plain tar commands begin in the
/// user's home.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  vmint image import alpine docker://alpine:3.20
  vmint image import mine ./rootfs.tar.gz
  vmint image import app oci-archive:app.tar")]
pub struct Import {
    /// Name of the new image
    pub name: ImageName,
    /// Source
    #[arg(value_name = "PATH|oci:DIR|oci-archive:FILE|docker://REF")]
    pub source: ImportSource,
    /// Size of the disk
    #[arg(long)]
    pub size: Option<ByteSize>,
    #[command(flatten)]
    pub kernel: Kernel,
}

/// Build, check and list templates
#[derive(Clone, Debug, Subcommand)]
pub enum Template {
    /// List templates
    Ls,
    /// Boot an image and freeze it now, rather than on first use
    Build(TemplateBuild),
    /// Remove templates; machines that came from them stay
    Rm {
        /// Fingerprints as in `vmint template ls`, or their beginnings; or images' names
        #[arg(required = true, value_name = "TEMPLATE")]
        templates: Vec<String>,
    },
    /// Read templates and compare their content with what was frozen
    ///
    /// A template is normally trusted while the times of its files show no change. This command reads every byte of its
    /// memory and device state, and exits with code 1 if anything differs. A damaged template is rebuilt on next use.
    ///
    /// Example: vmint template verify tiny
    Verify {
        /// Fingerprints as in `vmint template ls`, or their beginnings; or images' names [default: all templates]
        #[arg(value_name = "TEMPLATE")]
        templates: Vec<String>,
    },
    /// Remove templates that can never be forked again, because their image or this host's QEMU has changed
    Prune(DryRun),
}

/// Boot an image and freeze it now, rather than on first use
#[derive(Clone, Debug, Args)]
pub struct TemplateBuild {
    /// Image
    pub image: String,
    #[command(flatten)]
    pub hardware: Hardware,
}

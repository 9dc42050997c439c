//! What comes of a wish: a spec that this host can hold, and an image that is there.

use super::NewMachine;
use crate::Vmint;
use vmint_confine::Ground;
use vmint_image::Progress;
use vmint_model::{
    ErrorKind, ExecDefaults, Fault, Limits, MachineSpec, MachineState, Name, NetMode, Origin,
};
use vmint_qemu::Frozen;
use vmint_runner::machine::unlimitable;

impl Vmint {
    /// Checks what is asked, and makes sure of the image.
    pub(crate) async fn plan(
        &self,
        new: &NewMachine,
        progress: &dyn Progress,
    ) -> Result<(MachineSpec, String), Fault> {
        if let Some(name) = &new.name
            && let Ok(other) = self.store().by_name_or_id(name.as_str())
        {
            return Err(taken(name, other.state));
        }
        if let Some(name) = new.origin.snapshot() {
            let snapshot = self.store().snapshot(name)?;
            let snapshot = snapshot.ok_or_else(|| {
                Fault::new(ErrorKind::NotFound, format!("there is no snapshot {name}"))
            })?;
            let digest = snapshot.image_digest.unwrap_or_default();
            if let Origin::Disk(_) = new.origin
                && !self.has_disk(name)
            {
                let message = format!("snapshot {name} has no disk to boot from");
                return Err(Fault::new(ErrorKind::Usage, message).hint("leave out --cold"));
            }
            if !new.publish.is_empty() && snapshot.spec.net == NetMode::None {
                return Err(Fault::new(
                    ErrorKind::Usage,
                    "the snapshot is of a machine without a network",
                ));
            }
            let spec = MachineSpec {
                publish: new.publish.clone(),
                origin: new.origin.clone(),
                limits: new.limits.or(snapshot.spec.limits),
                disk_cache: new.disk_cache.or(snapshot.spec.disk_cache),
                ..snapshot.spec
            };
            self.check_limits(&spec.limits)?;
            return Ok((spec, digest));
        }
        new.validate()?;
        self.check_limits(&new.limits)?;
        let image = self.ensure_image(&new.image, progress).await?;
        let defaults = &image.manifest().defaults;
        let spec = MachineSpec {
            image: new.image.clone(),
            memory: new.memory,
            cpus: new.cpus,
            net: new.net.clone(),
            limits: new.limits,
            publish: new.publish.clone(),
            origin: new.origin.clone(),
            disk_cache: new.disk_cache,
            defaults: ExecDefaults {
                user: defaults.user.clone(),
                env: defaults.env.clone(),
                workdir: defaults.workdir.clone(),
                command: [defaults.entrypoint.clone(), defaults.cmd.clone()].concat(),
            },
        };
        if new.origin == Origin::Template {
            self.ensure_template(&image, &spec, progress).await?;
        }
        Ok((spec, image.digest().to_string()))
    }

    /// Refuses limits that this host cannot hold, before anything is made for a machine that could not have them.
    pub(crate) fn check_limits(&self, limits: &Limits) -> Result<(), Fault> {
        if !limits.need_group() {
            return Ok(());
        }
        let ground = Ground::find();
        let offers = ground.and_then(|ground| ground.offers(limits, self.home.root()));
        offers.map_err(|e| unlimitable(&e))
    }

    /// That no machine has this name.
    pub(crate) fn expect_free(&self, name: &Name) -> Result<(), Fault> {
        match self.machine(name.as_str()) {
            Ok(other) => Err(taken(name, other.state)),
            Err(_) => Ok(()),
        }
    }

    /// Whether a snapshot is of a machine with a disk.
    fn has_disk(&self, snapshot: &Name) -> bool {
        Frozen::open(&self.home.snapshot(snapshot)).is_ok_and(|f| f.manifest().layers > 0)
    }
}

pub(super) fn taken(name: &Name, state: MachineState) -> Fault {
    let message = format!("a machine with the name {name} exists already (it is {state})");
    Fault::new(ErrorKind::AlreadyExists, message)
}

//! An archive of an image, compressed or not, on its way into a folder of the host. The first byte says whether its
//! checksums are made right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmint_fuzz::archive::{Place, mend};

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, bytes)) = bytes.split_first() else {
        return;
    };
    let archive = if choice & 1 == 0 {
        mend(bytes)
    } else {
        bytes.to_vec()
    };
    let place = Place::default();
    let folder = place.folder();
    vmint_image::fuzzing::import(&archive, &folder);
    place.check();
});

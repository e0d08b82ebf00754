//! The last chapter: what the pool looks like now, and the figures together.

use std::time::Duration;

use crate::commands::info::dax_rows;
use crate::commands::map;
use crate::failure::Outcome;
use crate::session::Session;
use crate::size::{grouped, human, per_second, time};

use super::Figures;
use super::pool::Place;
use super::story::Story;

/// Shows the pool and sums up.
pub(crate) fn chapter(
    pool: &Session,
    figures: &Figures,
    place: &Place,
    story: &mut Story<'_>,
) -> Outcome<()> {
    story.chapter("Inside the pool")?;
    story.say(
        "The log asks for huge pages of 2 MiB and falls back to pages of 4 KiB where there is \
         none. This is what the layer that does it counted while the places were loaded.",
    )?;
    story.show(|out| dax_rows(&figures.loading).print(out, 4))?;
    story.say("And this is the pool now, mapped once more and read from end to end.")?;
    story.figure("page sizes obtained", page_sizes(figures));
    story.figure("entries of 2 MiB", grouped(figures.info.dax.entries.huge_mapping));
    story.figure("entries of 4 KiB", grouped(figures.info.dax.entries.page_mapping));
    story.line("")?;
    story.show(|out| map::show(&pool.layer(), out))?;

    story.chapter("In figures")?;
    let seconds = |nanos: u64| Duration::from_nanos(nanos);
    let rate = |count: u64, nanos: u64| grouped(per_second(count, seconds(nanos)));
    let (load, read, crash) = (&figures.load, &figures.read, &figures.crash);
    story.figure("persistence", &figures.info.medium.persistence);
    story.figure("batched writes", format!("{} records/s", rate(load.records, load.duration_ns)));
    let single = rate(crash.acknowledged, crash.write_duration_ns);
    story.figure("single acknowledged writes", format!("{single}/s, through a pipe"));
    let reads = rate(read.point_reads, read.point_reads_duration_ns);
    story.figure("random point reads", format!("{reads}/s, one thread, compared"));
    story.figure("ordered scan", format!("{} pairs/s", rate(read.scanned, read.scan_duration_ns)));
    let recovery = time(seconds(crash.recovery_duration_ns));
    story
        .figure("recovery", format!("{recovery} for {} records", grouped(crash.recovered_records)));
    story.line("")?;
    story.say("Every promise of this demo was checked and kept.")?;
    match place.is_temporary() {
        true => story.say("The pool was temporary and is gone now."),
        false => story.say(format_args!(
            "The pool stays. Look around: `daxite shell {}`.",
            place.path.display()
        )),
    }
}

fn page_sizes(figures: &Figures) -> String {
    let medium = &figures.info.medium;
    let resident = human(medium.resident_bytes);
    match medium.resident_in_huge_pages_bytes {
        Some(huge) => format!("2 MiB for {} of {resident}, 4 KiB for the rest", human(huge)),
        None => format!("the kernel does not tell for DAX; {resident} mapped"),
    }
}

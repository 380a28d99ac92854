//! The programs to compare: how they are built and called.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::floor;
use crate::{Result, note};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Floor,
    Product,
    Tokio,
}

impl Program {
    pub fn name(self) -> &'static str {
        match self {
            Program::Floor => "floor",
            Program::Product => "tcpcore",
            Program::Tokio => "tuned tokio",
        }
    }
}

pub struct Programs {
    own: PathBuf,
    product: PathBuf,
    tokio: PathBuf,
}

impl Programs {
    /// Builds the product, unless another program is named to stand for it, and its tokio peer.
    pub fn build(product: Option<PathBuf>) -> Result<Programs> {
        let benches = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let root = benches.join("..");
        let product = match product {
            Some(product) => product,
            None => {
                // Where it is looked for below, whatever the environment says.
                cargo_build(&root, &["--bin", "tcpcore", "--target-dir", "target"])?;
                root.join("target/release/tcpcore")
            }
        };
        cargo_build(&benches, &["--package", "tokio-peer"])?;
        let own = std::env::current_exe()?;
        let tokio = own.with_file_name("tokio-peer");
        Ok(Programs { own, product, tokio })
    }

    /// The command that reads each server to its end, once.
    pub fn once(
        &self,
        program: Program,
        workers: usize,
        servers: impl Iterator<Item = String>,
    ) -> Command {
        let mut command = match program {
            Program::Floor => return self.floor(floor::READ, servers),
            Program::Product => {
                let mut command = self.product(workers);
                command.arg("--once");
                command
            }
            Program::Tokio => Command::new(&self.tokio),
        };
        command.args(servers);
        command
    }

    /// The product, with this many workers and nothing else yet.
    pub fn product(&self, workers: usize) -> Command {
        let mut command = Command::new(&self.product);
        // Ten thousand lost servers make ten thousand lines, which are not what is timed.
        command.env("RUST_LOG", "off").args(["-p", &workers.to_string()]);
        command
    }

    pub fn floor(&self, which: &str, servers: impl Iterator<Item = String>) -> Command {
        let mut command = Command::new(&self.own);
        command.arg(which).args(servers);
        command
    }
}

fn cargo_build(package: &Path, args: &[&str]) -> Result<()> {
    note!("building {} in {}", args.join(" "), package.display());
    let mut cargo = Command::new(env!("CARGO"));
    // What cargo has set for this program is not meant for that one.
    cargo.env_remove("CARGO_MANIFEST_DIR").current_dir(package);
    // It takes as long as it takes.
    match cargo.args(["build", "--release", "--quiet"]).args(args).status()? {
        status if status.success() => Ok(()),
        status => Err(format!("cargo build ended with {status}").into()),
    }
}

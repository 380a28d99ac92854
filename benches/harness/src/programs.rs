//! Builds the programs to compare, and makes their commands.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::floor;
use crate::{Result, note};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Floor,
    FloorInTwo,
    Product,
    Tokio,
}

impl Program {
    pub fn name(self) -> &'static str {
        match self {
            Program::Floor => "floor",
            Program::FloorInTwo => "floor of two threads",
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
    /// Builds the product and its tokio peer. If `product` names a program, that is measured instead of the
    /// product.
    pub fn build(product: Option<PathBuf>) -> Result<Programs> {
        let benches = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let root = benches.join("..");
        let product = match product {
            Some(product) => product,
            None => {
                // The environment could name another directory than the one that is used below.
                cargo_build(&root, &["--bin", "tcpcore", "--target-dir", "target"])?;
                root.join("target/release/tcpcore")
            }
        };
        cargo_build(&benches, &["--package", "tokio-peer"])?;
        let own = std::env::current_exe()?;
        let tokio = own.with_file_name("tokio-peer");
        Ok(Programs { own, product, tokio })
    }

    /// Returns the command that reads each server to its end, once.
    pub fn once(
        &self,
        program: Program,
        workers: usize,
        servers: impl Iterator<Item = String>,
    ) -> Command {
        let mut command = match program {
            Program::Floor => return self.floor(floor::READ, servers),
            Program::FloorInTwo => return self.floor(floor::READ_IN_TWO, servers),
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

    /// Returns the command of the product with `workers` workers, and without servers.
    pub fn product(&self, workers: usize) -> Command {
        let mut command = Command::new(&self.product);
        // Ten thousand lost servers log ten thousand lines, which must not be part of the measurement.
        command.env("RUST_LOG", "off").args(["-p", &workers.to_string()]);
        command
    }

    /// Returns the command of the floor `which`.
    pub fn floor(&self, which: &str, servers: impl Iterator<Item = String>) -> Command {
        let mut command = Command::new(&self.own);
        command.arg(which).args(servers);
        command
    }
}

fn cargo_build(package: &Path, args: &[&str]) -> Result<()> {
    note!("building {} in {}", args.join(" "), package.display());
    let mut cargo = Command::new(env!("CARGO"));
    // Cargo has set this variable for the harness. It is wrong for another package.
    cargo.env_remove("CARGO_MANIFEST_DIR").current_dir(package);
    // A build has no time limit.
    match cargo.args(["build", "--release", "--quiet"]).args(args).status()? {
        status if status.success() => Ok(()),
        status => Err(format!("cargo build ended with {status}").into()),
    }
}

//! The `crashcheck` command; see [`crashcheck::cli`].

fn main() -> std::process::ExitCode {
    crashcheck::cli::main()
}

//! Compiles `isotick.proto` without an external `protoc`.

fn main() {
    println!("cargo:rerun-if-changed=isotick.proto");
    let files = protox::compile(["isotick.proto"], ["."]).expect("isotick.proto is valid");
    prost_build::Config::new().compile_fds(files).expect("the generated code can be written");
}

mod fifo;
mod mapping;
mod source;
mod trouble;
pub(crate) mod world;

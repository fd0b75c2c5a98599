//! One test binary: each further one is another link.

mod tidy;

//! To come..

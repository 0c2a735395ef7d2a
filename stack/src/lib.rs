//! The whole group and its outside world on one machine

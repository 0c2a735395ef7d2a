//! Verification SDK and the command line pmc

//! Names to addresses.

use std::io;
use std::net::IpAddr;

use futures::FutureExt as _;
use futures::future::BoxFuture;

/// Who says where a name leads.
pub trait Resolve: Send + Sync {
    /// The addresses of that name.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// As the machine does it.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Resolve for System {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let looked_up = tokio::net::lookup_host((host, 0));
        async { Ok(looked_up.await?.map(|address| address.ip()).collect()) }.boxed()
    }
}

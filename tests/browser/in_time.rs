//! The service in this process, with a clock that the story moves.

use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use magic_link::clock::Clock;
use magic_link::config::Config;
use magic_link::serve::Service;
use tokio::sync::oneshot;

/// A service that stops when it is dropped.
pub struct InTime {
    stop: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl InTime {
    /// Serves a Cloud portal that wants a mailed code; `None` if the port was taken.
    pub fn start(folder: &Path, (port, portal_port): (u16, u16), master_key: &str, clock: Clock) -> Option<Self> {
        let portal = format!("http://127.0.0.1:{portal_port}");
        let text = format!(
            "listen = '127.0.0.1:{port}'\npublic_url = 'http://127.0.0.1:{port}'\n\
             database_url = 'sqlite://{}/magic-link.db'\ndatabase_connections = 4\nmaster_key = '{master_key}'\n\
             links.resend_cool_down_seconds = 0\nlimits.public_per_minute = 100000\nlog.level = 'warn'\n\
             [portals.cloud]\nname = 'Cloud'\ncallback_url = '{portal}/{{tenant_id}}/cloud/callback'\n\
             audience = '{portal}/cloud'\nstep_up = 'email_code'\n",
            folder.display()
        );
        let config = Config::from_toml(&text).expect("the configuration is right");
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let service = Service::build(config, clock).await;
                tell.send(service.is_ok()).expect("the story waits for it");
                if let Ok(service) = service {
                    service.run_until(async { drop(stopped.await) }).await.expect("the service runs");
                }
            });
        });
        told.recv().expect("an answer").then(|| Self { stop: Some((stop, thread)) })
    }
}

impl Drop for InTime {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.stop.take() {
            let _gone = stop.send(());
            drop(thread.join());
        }
    }
}

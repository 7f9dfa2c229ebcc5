package image

import "fmt"

const rootFile = "/etc/bulkhead/root.crt"

// document is the part of cloud-init's schema that a gateway needs
// (docs.cloud-init.io/en/latest/reference/modules.html).
type document struct {
	Users       []user   `yaml:"users,omitempty"`
	SSHPassword bool     `yaml:"ssh_pwauth"`
	DisableRoot bool     `yaml:"disable_root"`
	Boot        []string `yaml:"bootcmd"`
	Files       []file   `yaml:"write_files"`
	Run         []string `yaml:"runcmd"`
}

type user struct {
	Name string `yaml:"name"`
}

type file struct {
	Path        string `yaml:"path"`
	Permissions string `yaml:"permissions"`
	Content     string `yaml:"content"`
}

// Services of the image that a gateway has no use for.
const (
	unneeded  = "snapd.socket snapd.service ModemManager.service multipathd.socket multipathd.service udisks2.service"
	sshServer = "ssh.socket ssh.service"
)

func (s Spec) cloudConfig(gateway string) document {
	d := document{
		DisableRoot: true,
		// At each boot, before anything of ours: closed is what the machine is until the
		// gateway has loaded its program and turns forwarding on itself. It is no line of
		// /etc/sysctl.d, because an upgrade of procps applies that folder again, and would
		// turn a running gateway off.
		Boot: []string{
			"sysctl -q -w net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0",
			"systemctl mask " + unneeded,
		},
		Files: []file{
			{"/etc/bulkhead/gateway.yaml", "0644", gateway},
			{"/etc/bulkhead/release", "0644", fmt.Sprintf("url=%s\nsha256=%s\nclient=%s\n", s.BundleURL, s.BundleSHA256, s.ClientID)},
			{"/etc/sysctl.d/60-bulkhead.conf", "0644", hardening},
			{"/etc/apt/apt.conf.d/60bulkhead", "0644", upgrades},
			{"/usr/local/sbin/bulkhead-setup", "0755", setup},
			{"/etc/systemd/system/bulkhead-setup.service", "0644", setupService},
			{"/etc/systemd/system/bulkhead-setup.timer", "0644", setupTimer},
		},
		Run: []string{
			"sysctl -q -p /etc/sysctl.d/60-bulkhead.conf",
			"systemctl daemon-reload",
			"systemctl enable bulkhead-setup.service bulkhead-setup.timer",
			// Not waited for: a release that cannot be had yet must not look like a machine
			// that did not boot.
			"systemctl start --no-block bulkhead-setup.service bulkhead-setup.timer",
		},
	}
	if !s.SSH {
		// Nobody logs in, so there is nobody. Azure insists on a user with a key, but
		// cloud-init makes no default user where a list of users does not name it; the list
		// may not be empty, and root exists already, without a password.
		d.Users = []user{{"root"}}
		d.Boot = append(d.Boot, "systemctl mask --now "+sshServer)
	}
	if s.RootCertificate != "" {
		d.Files = append(d.Files, file{rootFile, "0644", s.RootCertificate})
	}
	return d
}

// hardening is what the kernel keeps from the machine's own processes. What a router needs
// under net the gateway sets itself.
const hardening = `kernel.kptr_restrict = 2
kernel.dmesg_restrict = 1
kernel.kexec_load_disabled = 1
kernel.unprivileged_bpf_disabled = 1
kernel.yama.ptrace_scope = 2
fs.protected_fifos = 2
fs.protected_regular = 2
`

// upgrades says what Ubuntu's images do by default, so that another image does it too:
// security fixes daily. A restart is the operator's decision, because agents notice it.
const upgrades = `APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";
Unattended-Upgrade::Automatic-Reboot "false";
`

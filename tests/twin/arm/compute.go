package arm

import (
	"encoding/base64"
	"regexp"
	"slices"
	"strings"
)

// Sizes: learn.microsoft.com/azure/virtual-machines/sizes. Accelerated networking is had by
// nearly all with two or more vCPUs; the burstable series has it from B2ms on only in part, and
// the oldest ones not at all (learn.microsoft.com/azure/virtual-network/accelerated-networking-overview).
var (
	validSize    = regexp.MustCompile(`^Standard_[A-Z]{1,3}[0-9]+(-[0-9]+)?[a-z]*(_v[0-9]+)?$`)
	unspecial    = regexp.MustCompile(`^Standard_(A|B[0-9]+l?s$|B[0-9]+ms$|B1|D1(_|$)|DS1(_|$)|F1(s|$))`)
	trustedSizes = regexp.MustCompile(`^Standard_(B|D[0-9]+[a-z]*_v[3-9]|DC|DS[0-9]+(-[0-9]+)?_v2|E|F|L)`)
)

func accelerates(name string) bool { return !unspecial.MatchString(name) }

func noAcceleration(machine Object) error {
	return failure(400, "VMSizeIsNotPermittedToEnableAcceleratedNetworking", "VM size %s is not permitted to enable accelerated networking on network interface(s) of VM %s. For the list of supported sizes see https://aka.ms/AcceleratedNetworking.", machine.Text("properties", "hardwareProfile", "vmSize"), machine.Text("id"))
}

// image is one that the twin has in its marketplace.
type image struct {
	publisher, offer, sku string
	generation            int
}

// images: generation 2 is needed for Trusted Launch (learn.microsoft.com/azure/virtual-machines/trusted-launch).
var images = []image{
	{"Canonical", "ubuntu-24_04-lts", "server", 2}, {"Canonical", "ubuntu-24_04-lts", "server-gen1", 1}, {"Canonical", "ubuntu-24_04-lts", "minimal", 2},
	{"Canonical", "0001-com-ubuntu-server-jammy", "22_04-lts-gen2", 2}, {"Canonical", "0001-com-ubuntu-server-jammy", "22_04-lts", 1},
	{"Debian", "debian-12", "12-gen2", 2}, {"Debian", "debian-12", "12", 1},
}

const maxUserData = 64 << 10

func vmRules(o *operation) error {
	p := o.body.Object("properties")
	vmSize := p.Text("hardwareProfile", "vmSize")
	if !validSize.MatchString(vmSize) {
		return failure(400, "InvalidParameter", "The value %s provided for the VM size is not valid.", vmSize)
	}
	nics := p.List("networkProfile", "networkInterfaces")
	if len(nics) == 0 {
		return failure(400, "InvalidParameter", "Virtual machine %s must have at least one network interface. Target: networkProfile.", o.id.Name())
	}
	primary := 0
	for _, ref := range nics {
		if ref.True("properties", "primary") {
			primary++
		}
		if err := o.plug(ref.Text("id"), vmSize); err != nil {
			return err
		}
	}
	if len(nics) > 1 && primary != 1 {
		return failure(400, "VirtualMachineMustHaveOnePrimaryNetworkInterface", "Virtual machine %s must have one network interface set as the primary.", o.id.Name())
	}
	if err := blob("userData", p.Text("userData")); err != nil {
		return err
	}
	if err := blob("osProfile.customData", p.Text("osProfile", "customData")); err != nil {
		return err
	}
	if err := o.system(p); err != nil {
		return err
	}
	if err := o.trusted(p, vmSize); err != nil {
		return err
	}
	if id := o.body.Object("identity"); id != nil {
		users := id.Object("userAssignedIdentities")
		if assigned := strings.Contains(id.Text("type"), "UserAssigned"); assigned != (len(users) > 0) {
			return failure(400, "InvalidIdentityValues", "The identity type '%s' of resource '%s' does not fit its identity ids.", id.Text("type"), o.id)
		}
	}
	if err := zones(o, 1); err != nil {
		return err
	}
	if o.old != nil {
		return o.vmChange()
	}
	return nil
}

// plug checks one of a machine's interfaces.
func (o *operation) plug(id, vmSize string) error {
	nic := o.s.get(id)
	if nic == nil || !same(nic.Type, typeNIC) {
		return unknownReference(o.id, id)
	}
	if nic.Body.Text("location") != o.body.Text("location") {
		return unknownReference(o.id, id)
	}
	for _, u := range o.s.users(nic.ID) {
		if same(u.Type, typeVM) && !same(u.ID, o.id.text) {
			return failure(400, "NicInUse", "Network Interface %s is used by existing resource %s. In order to use the network interface, it must be dissociated from the resource.", nic.ID, u.ID)
		}
	}
	if nic.Body.True("properties", "enableAcceleratedNetworking") && !accelerates(vmSize) {
		o.body.Default(o.id.text, "id")
		return noAcceleration(o.body)
	}
	for _, ip := range nic.Body.List("properties", "ipConfigurations") {
		public := o.s.get(ip.Text("properties", "publicIPAddress", "id"))
		zone := o.body.Texts("zones")
		if public != nil && len(zone) == 1 && len(public.Body.Texts("zones")) > 0 && !slices.Contains(public.Body.Texts("zones"), zone[0]) {
			return failure(400, "ZonesMismatch", "Virtual machine %s in zone %s cannot use public IP address %s of the zones %s.", o.id, zone[0], public.ID, strings.Join(public.Body.Texts("zones"), ", "))
		}
	}
	return nil
}

func blob(what, s string) error {
	if s == "" {
		return nil
	}
	data, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return failure(400, "InvalidParameter", "%s should be Base64-encoded.", what)
	}
	if len(data) > maxUserData {
		return failure(400, "InvalidParameter", "%s is of %d bytes; it should be at most %d.", what, len(data), maxUserData)
	}
	return nil
}

// system checks the image and who may log in.
func (o *operation) system(p Object) error {
	disk := p.Object("storageProfile", "osDisk")
	if disk.Text("createOption") == "" {
		return failure(400, "InvalidParameter", "Required parameter 'osDisk.createOption' is missing (null).")
	}
	if !same(disk.Text("createOption"), "FromImage") {
		return nil
	}
	if o.image() == nil {
		ref := p.Object("storageProfile", "imageReference")
		return failure(404, "PlatformImageNotFound", "The platform image '%s:%s:%s:%s' is not available. Verify that all fields in the storage profile are correct.", ref.Text("publisher"), ref.Text("offer"), ref.Text("sku"), ref.Text("version"))
	}
	os := p.Object("osProfile")
	if os.Text("computerName") == "" || len(os.Text("computerName")) > 64 {
		return failure(400, "InvalidParameter", "Required parameter 'osProfile.computerName' is missing (null) or longer than 64 characters.")
	}
	admin := os.Text("adminUsername")
	if admin == "" || slices.Contains([]string{"root", "admin", "administrator", "user", "test", "guest"}, strings.ToLower(admin)) {
		return failure(400, "InvalidParameter", "The Admin Username specified is not allowed.")
	}
	keys := os.List("linuxConfiguration", "ssh", "publicKeys")
	if os.Text("adminPassword") == "" && len(keys) == 0 && o.old == nil {
		return failure(400, "InvalidParameter", "Authentication using either SSH or by user name and password must be enabled in Linux profile. Target: linuxConfiguration.")
	}
	for _, k := range keys {
		if want := "/home/" + admin + "/.ssh/authorized_keys"; k.Text("path") != want {
			return failure(400, "InvalidParameter", "Destination path for SSH public keys is currently limited to its default value %s due to a known issue in Linux provisioning agent.", want)
		}
		if data := k.Text("keyData"); !strings.HasPrefix(data, "ssh-rsa ") && !strings.HasPrefix(data, "ssh-ed25519 ") {
			return failure(400, "InvalidParameter", "The value of parameter linuxConfiguration.ssh.publicKeys.keyData is invalid.")
		}
	}
	return nil
}

func (o *operation) image() *image {
	ref := o.body.Object("properties", "storageProfile", "imageReference")
	i := slices.IndexFunc(images, func(i image) bool {
		return same(i.publisher, ref.Text("publisher")) && same(i.offer, ref.Text("offer")) && same(i.sku, ref.Text("sku")) && ref.Text("version") != ""
	})
	if i < 0 {
		return nil
	}
	return &images[i]
}

// trusted checks what Trusted Launch needs.
func (o *operation) trusted(p Object, vmSize string) error {
	kind := p.Text("securityProfile", "securityType")
	uefi := p.Object("securityProfile", "uefiSettings")
	if kind == "" && uefi != nil {
		return failure(400, "BadRequest", "Use of UefiSettings is not supported unless 'securityType' is set. To enable it, set 'securityProfile.securityType' to TrustedLaunch or ConfidentialVM.")
	}
	if kind == "TrustedLaunch" {
		if i := o.image(); i != nil && i.generation != 2 {
			return failure(400, "BadRequest", "The provided hypervisor generation 'V1' is not supported with security type 'TrustedLaunch'. Use a generation 2 image.")
		}
		if !trustedSizes.MatchString(vmSize) {
			return failure(400, "BadRequest", "The VM size '%s' is not supported for creation of VMs and Virtual Machine Scale Set with '%s' security type.", vmSize, kind)
		}
	}
	return nil
}

// vmChange refuses what a machine is born with.
func (o *operation) vmChange() error {
	for _, path := range []string{"osProfile.customData", "osProfile.adminUsername", "osProfile.computerName", "osProfile.linuxConfiguration.disablePasswordAuthentication",
		"storageProfile.imageReference.publisher", "storageProfile.imageReference.offer", "storageProfile.imageReference.sku", "storageProfile.osDisk.createOption", "storageProfile.osDisk.managedDisk.storageAccountType", "priority"} {
		at := append([]string{"properties"}, strings.Split(path, ".")...)
		old, now := o.old.At(at...), o.body.At(at...)
		if path == "osProfile.customData" { // never shown
			old = any(o.s.get(o.id.text).Hidden["customData"])
		}
		if now != nil && old != now {
			return failure(409, "PropertyChangeNotAllowed", "Changing property '%s' is not allowed.", path)
		}
	}
	if !slices.Equal(o.old.Texts("zones"), o.body.Texts("zones")) {
		return failure(409, "PropertyChangeNotAllowed", "Changing property 'zones' is not allowed.")
	}
	return nil
}

func vmFill(o *operation, r *Resource) {
	p := o.body.Object("properties")
	p.Set(uuid(r.ID+text(r.Made)), "vmId")
	p.Default(r.Body.Text("properties", "storageProfile", "osDisk", "name"), "storageProfile", "osDisk", "name")
	if p.Text("storageProfile", "osDisk", "name") == "" {
		p.Set(last(r.ID)+"_OsDisk_1_"+strings.ReplaceAll(uuid(r.ID+text(r.Made)), "-", ""), "storageProfile", "osDisk", "name")
	}
	p.Default("Linux", "storageProfile", "osDisk", "osType")
	p.Default("Detach", "storageProfile", "osDisk", "deleteOption")
	p.Default(30.0, "storageProfile", "osDisk", "diskSizeGB")
	p.Default([]any{}, "storageProfile", "dataDisks")
	p.Default(true, "osProfile", "allowExtensionOperations")
	if r.Hidden == nil {
		r.Hidden = map[string]string{}
	}
	if data := p.Text("userData"); data != "" {
		r.Hidden["userData"] = data
	}
	if data := p.Text("osProfile", "customData"); data != "" {
		r.Hidden["customData"] = data
	}
	p.Remove("userData")
	p.Remove("osProfile", "customData")
	p.Remove("osProfile", "adminPassword")
	identities(o, r)
	for _, ref := range p.List("networkProfile", "networkInterfaces") {
		nic := o.s.get(ref.Text("id"))
		nic.Body.Set(r.ID, "properties", "virtualMachine", "id")
		nic.Body.Set(true, "properties", "primary")
	}
}

// identities fills in who a resource is.
func identities(o *operation, r *Resource) {
	id := o.body.Object("identity")
	if id == nil {
		return
	}
	if strings.Contains(id.Text("type"), "SystemAssigned") {
		id.Set(uuid("principal "+r.ID+text(r.Made)), "principalId")
		id.Set(o.s.Settings.Tenant, "tenantId")
	}
	for name := range id.Object("userAssignedIdentities") {
		if user := o.s.get(name); user != nil {
			id.Set(map[string]any{"principalId": user.Body.Text("properties", "principalId"), "clientId": user.Body.Text("properties", "clientId")}, "userAssignedIdentities", name)
		}
	}
}

func vmRemoved(o *operation, r *Resource) {
	for _, ref := range r.Body.List("properties", "networkProfile", "networkInterfaces") {
		if nic := o.s.get(ref.Text("id")); nic != nil {
			nic.Body.Remove("properties", "virtualMachine")
			if same(ref.Text("properties", "deleteOption"), "Delete") {
				delete(o.s.Resources, key(nic.ID))
			}
		}
	}
}

func identityPrepare(o *operation) error {
	o.unseen = o.s.Settings.DirectoryDelay
	return nil
}

func identityFill(o *operation, r *Resource) {
	seed := r.ID + text(r.Made)
	o.body.Set(uuid("principal "+seed), "properties", "principalId")
	o.body.Set(uuid("client "+seed), "properties", "clientId")
	o.body.Set(o.s.Settings.Tenant, "properties", "tenantId")
}

// identityRemovable: Azure lets an identity go while a machine has it, and the machine is then
// broken. The twin wants the machine gone first.
func identityRemovable(o *operation) error {
	return inUse("IdentityInUse", "The identity %[1]s is in use by %[2]s.")(o)
}

// emptied is the deletion of a resource group: everything in it goes, in an order that works.
func emptied(o *operation) error {
	for {
		all := o.s.under(o.id.text)
		if len(all) == 0 {
			return nil
		}
		var stuck error
		gone := false
		for _, r := range all {
			id, err := ParseID(r.ID)
			if err != nil {
				return err
			}
			if o.s.get(r.ID) == nil || kinds[key(r.Type)].undeletable {
				continue
			}
			if err := o.s.remove(id); err != nil {
				stuck = err
			} else {
				gone = true
			}
		}
		if !gone {
			if stuck == nil {
				return nil
			}
			return failure(409, "ResourceGroupDeletionBlocked", "Deletion of resource group '%s' failed as resources with identifiers '%s' could not be deleted. The provisioning state of the resource group will be rolled back. %v", o.id.Name(), idsOf(all), stuck)
		}
	}
}

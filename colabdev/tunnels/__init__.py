"""Ways for SSH to a runtime that its provider does not give by itself; `ports.tunnels.Tunnel`."""

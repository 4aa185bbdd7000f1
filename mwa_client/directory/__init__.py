"""The download directory: one client at a time, and files that survive a kill or a power cut."""

"""The methods of the bench, a file each: what it takes, learns, and scores by (see `dimuon.methods.protocol`)."""

"""The classifiers, one file each; `dimuon.classifiers.protocol.CLASSIFIERS` finds them."""

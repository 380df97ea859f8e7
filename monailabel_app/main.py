"""What `monailabel start_server --app <this folder>` executes. MONAI Label takes the class whose direct base is named MONAILabelApp."""

from monailabel_app.app import FedSCALabelApp

__all__ = ["FedSCALabelApp"]

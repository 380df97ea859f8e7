"""The MONAI Label app: `monailabel start_server --app monailabel_app --studies <folder> [--conf key value ...]`."""

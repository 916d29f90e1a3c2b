"""Train the two example networks on MNIST and export them to ONNX.

    python tools/train_models.py --mnist mnist.npz

Needs torch, numpy and onnx.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

MEAN, STD = 0.1307, 0.3081
OPSET = 17
SEED = 0
BATCH = 128
MAX_SHIFT = 2


class LeNet300100(nn.Module):
    """Fully connected 784-300-100-10 network with ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a batch of images."""
        x = functional.relu(self.fc1(torch.flatten(x, 1)))
        x = functional.relu(self.fc2(x))
        logits: Tensor = self.fc3(x)
        return logits


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, 1x1-projected where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            norm = nn.BatchNorm2d(outputs)
            # Started equal, this bias and bn2's would stay equal (their gradients
            # are), and the exporter would merge the two through an Identity node.
            nn.init.constant_(norm.bias, 0.1)
            self.shortcut.append(nn.Conv2d(inputs, outputs, 1, stride, bias=False))
            self.shortcut.append(norm)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's feature maps."""
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet8(nn.Module):
    """Residual network of three stages, one basic block each."""

    def __init__(self, widths: tuple[int, int, int] = (16, 32, 64)) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, widths[0], 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(widths[0])
        self.stage1 = BasicBlock(widths[0], widths[0], stride=1)
        self.stage2 = BasicBlock(widths[0], widths[1], stride=2)
        self.stage3 = BasicBlock(widths[1], widths[2], stride=2)
        self.fc = nn.Linear(widths[2], 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a batch of images."""
        x = functional.relu(self.bn(self.conv(x)))
        x = self.stage3(self.stage2(self.stage1(x)))
        x = torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1)
        logits: Tensor = self.fc(x)
        return logits


@dataclass(frozen=True)
class Recipe:
    """How one network is built and trained."""

    build: Callable[[], nn.Module]
    epochs: int
    rate: float


RECIPES = {
    "lenet-300-100": Recipe(LeNet300100, epochs=12, rate=2e-3),
    "resnet8-mnist": Recipe(ResNet8, epochs=4, rate=1e-2),
}


def load_split(path: Path, split: str) -> tuple[Tensor, Tensor]:
    """Return the normalised images and the labels of `train` or `test`."""
    with np.load(path) as data:
        images = torch.from_numpy(data[f"x_{split}"]).float().unsqueeze(1)
        labels = torch.from_numpy(data[f"y_{split}"]).long()
    return (images / 255 - MEAN) / STD, labels


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int, rate: float, *, verbose: bool = True) -> None:
    """Fit the model with AdamW on randomly shifted batches, one rate cycle in all."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    steps = epochs * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    model.train()
    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.split(torch.randperm(len(images)), BATCH):
            # Digits seldom reach the border, so rolling comes close to shifting.
            shift = torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, (2,)).tolist()
            batch = images[chosen].roll(shift, dims=(2, 3))
            loss = functional.cross_entropy(model(batch), labels[chosen])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        if verbose:
            print(f"  epoch {epoch + 1}/{epochs}: loss {total / len(images):.4f}", flush=True)


@torch.inference_mode()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the top-1 accuracy in percent."""
    model.eval()
    guesses = torch.cat([model(x).argmax(1) for x in torch.split(images, 1000)])
    return 100 * (guesses == labels).float().mean().item()


def export(model: nn.Module, path: Path) -> None:
    """Write the model to ONNX in inference form, BatchNormalization nodes kept."""
    model.eval()
    torch.onnx.export(
        model,
        (torch.zeros(1, 1, 28, 28),),
        path,
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
        opset_version=OPSET,
        # With these two the exporter does not fold normalisation into convolutions.
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        dynamo=False,
    )
    proto = onnx.load(path)
    strip_notes(proto)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def strip_notes(proto: onnx.ModelProto) -> None:
    """Remove free text (doc strings, metadata) that an exporter may leave."""
    graph = proto.graph
    values = [*graph.initializer, *graph.input, *graph.output, *graph.value_info]
    for item in (proto, graph, *graph.node, *values):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")


def main() -> None:
    """Train, measure and export every network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--mnist",
        type=Path,
        required=True,
        metavar="PATH",
        help="npz file with the arrays x_train, y_train, x_test and y_test",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("models"),
        metavar="FOLDER",
        help="where the ONNX files go (default: %(default)s)",
    )
    parser.add_argument(
        "--epochs",
        type=int,
        help="passes over the training images, for every network (default: "
        + ", ".join(f"{r.epochs} for {name}" for name, r in RECIPES.items())
        + ")",
    )
    args = parser.parse_args()
    if args.epochs is not None and args.epochs < 1:
        parser.error("--epochs must be at least 1")

    torch.set_num_threads(1)
    train_set = load_split(args.mnist, "train")
    test_set = load_split(args.mnist, "test")
    args.out.mkdir(parents=True, exist_ok=True)
    for name, recipe in RECIPES.items():
        print(name, flush=True)
        torch.manual_seed(SEED)
        model = recipe.build()
        train(model, *train_set, args.epochs or recipe.epochs, recipe.rate)
        path = args.out / f"{name}.onnx"
        export(model, path)
        parameters = sum(p.numel() for p in model.parameters())
        print(f"  test top-1 {accuracy(model, *test_set):.2f} %, {parameters} parameters, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

//! Where well-known data sets come from, for the message about a file that is not there.

/// A part of a path, and what to do when such a path leads nowhere.
const HOMES: [(&str, &str); 4] = [
    (
        "mnist",
        "MNIST comes as four `.gz` files named like `train-images-idx3-ubyte.gz`, from Yann LeCun's page \"The MNIST database of handwritten digits\" and its mirrors; put them into a folder `mnist`",
    ),
    (
        "cifar10",
        "CIFAR-10 comes from Alex Krizhevsky's page at the University of Toronto; as Parquet files it is the data set `cifar10` on the Hugging Face Hub; put those into a folder `cifar10`",
    ),
    (
        "adult",
        "Adult (\"Census Income\") comes from the UCI Machine Learning Repository as `adult.data` and `adult.test`; put them into a folder `adult`",
    ),
    (
        "tinyshakespeare",
        "tinyshakespeare is the file `input.txt` of Andrej Karpathy's repository `char-rnn`; put it into a folder `tinyshakespeare`",
    ),
];

/// Where to get the data set that a path seems to belong to.
pub(crate) fn home_of(path: &str) -> Option<&'static str> {
    let path = path.to_lowercase();
    HOMES.iter().find(|(name, _)| path.contains(name)).map(|(_, home)| *home)
}

-- Removes a worker's presence.
-- ARGV: prefix, id of the worker, the worker as JSON
local p = ARGV[1]
try('ZREM', p .. 'seen', ARGV[2])
try('HDEL', p .. 'workers', ARGV[2])
return call('PUBLISH', p .. 'left', ARGV[3])
